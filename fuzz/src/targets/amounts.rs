//! Sizes, CPU, durations and money as people write them: what is read is plain decimal and reads the same when written.

use pasture_types::resources::{display_bytes, parse_bytes, parse_cpu};
use pasture_types::spec::parse_duration;
use pasture_types::{Amount, Millis, Resources};

/// No sign, no exponent, nothing but digits, one dot and a unit.
fn plain(text: &str) {
    let t = text.trim();
    assert!(t.starts_with(|c: char| c.is_ascii_digit()), "`{text}` was taken for a number");
    assert!(t.matches('.').count() <= 1 && !t.contains(['+', '-', 'e', 'E', '_']), "`{text}` was taken for a number");
}

/// Takes one input; a broken promise panics.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(bytes) = parse_bytes(text) {
        plain(text);
        assert_eq!(parse_bytes(&bytes.to_string()), Ok(bytes));
        assert!(!display_bytes(bytes).is_empty());
    }
    if let Ok(millis) = parse_cpu(text) {
        plain(text);
        assert_eq!(parse_cpu(&format!("{millis}m")), Ok(millis));
        assert_eq!(parse_cpu(&format!("{}.{:03}", millis / 1000, millis % 1000)), Ok(millis));
        assert!(!Resources { cpu_millis: millis, ..Resources::default() }.to_string().is_empty());
    }
    if let Ok(duration) = parse_duration(text) {
        plain(text);
        assert!(duration > Millis(0));
        assert_eq!(parse_duration(&format!("{duration}ms")), Ok(duration));
    }
    if let Ok(amount) = text.parse::<Amount>() {
        plain(text);
        assert_eq!(amount.to_string().parse(), Ok(amount));
        assert_eq!(amount.display(9).parse(), Ok(amount));
        for decimals in 0..9 {
            let shown: Amount = amount.display(decimals).parse().expect("fewer decimals are an amount too");
            assert!(shown <= amount, "rounded down");
        }
        let json = serde_json::to_string(&amount).expect("an amount is JSON");
        assert_eq!(serde_json::from_str::<Amount>(&json).expect("it was written a moment ago"), amount);
    }
}
