//! When a machine takes jobs, and which: what the flags of `farm up` say about it.
//!
//! Guarantees: a mistake names its flag and what to write instead; hours are UTC, and days on which they begin go over midnight
//! into the next. It offers nothing.

use crate::args::LimitArgs;
use crate::backend::OfferLimits;
use crate::exit::Failure;
use pasture_types::Millis;
use pasture_types::market::{DAY_MINUTES, MAX_ATTRIBUTE, MAX_ATTRIBUTES, MAX_WINDOWS, WEEK_MINUTES, Window};
use pasture_types::spec::parse_duration;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// The limits that were asked for.
pub(crate) fn limits(args: &LimitArgs) -> Result<OfferLimits, Failure> {
    let time = |flag: &str, text: &str| match text {
        "0" => Ok(Millis(0)),
        text => parse_duration(text).map_err(|e| Failure::usage(format!("{flag}: {e}"))),
    };
    let max_duration = time("--longest", &args.longest)?;
    let min_duration = args.shortest.as_deref().map_or(Ok(Millis(0)), |text| time("--shortest", text))?;
    if max_duration.0 == 0 || max_duration < min_duration {
        return Err(Failure::usage("--longest: shorter than the shortest job, so no job would fit"));
    }
    if args.most_jobs == Some(0) {
        return Err(Failure::usage("--most-jobs: with 0 no job would be taken; leave it out for as many as fit"));
    }
    Ok(OfferLimits {
        min_duration,
        max_duration,
        max_leases: args.most_jobs.unwrap_or(0),
        windows: windows(&args.hours)?,
        price_lock: time("--price-lock", &args.price_lock)?,
        attributes: labels(&args.label)?,
    })
}

fn windows(hours: &[String]) -> Result<Vec<Window>, Failure> {
    let mut all = vec![];
    for text in hours {
        let wrong = || Failure::usage(format!("--hours: `{text}` are no hours: write for example 22:00-06:00 or mon-fri/08:00-18:00"));
        let (days, hours) = text.split_once('/').map_or((None, text.as_str()), |(days, hours)| (Some(days), hours));
        let (from, to) = hours.split_once('-').ok_or_else(wrong)?;
        let (from, to) = (minute(from).ok_or_else(wrong)?, minute(to).ok_or_else(wrong)?);
        if from == to {
            return Err(Failure::usage(format!("--hours: `{text}` begin and end at once; for the whole day write 00:00-24:00")));
        }
        let days = days.map_or(Some((0..7).collect()), day_list).ok_or_else(wrong)?;
        all.extend(days.into_iter().flat_map(|day| on_day(day, from, to)));
    }
    let all = joined(all);
    if all.len() > MAX_WINDOWS {
        return Err(Failure::usage(format!("--hours: {} intervals a week where at most {MAX_WINDOWS} can be named", all.len())));
    }
    Ok(all)
}

/// `08:30` as minutes of the day; `24:00` is its end.
fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let two_digits = |t: &str| t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit());
    if !two_digits(hours) || !two_digits(minutes) {
        return None;
    }
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    let at = hours * 60 + minutes;
    (minutes < 60 && at <= DAY_MINUTES).then_some(at)
}

/// `mon`, `sat,sun` or `mon-fri`, also over the end of the week.
fn day_list(text: &str) -> Option<Vec<u16>> {
    let day = |t: &str| DAYS.iter().position(|d| *d == t.trim().to_ascii_lowercase()).and_then(|d| u16::try_from(d).ok());
    let mut out = vec![];
    for part in text.split(',') {
        match part.split_once('-') {
            None => out.push(day(part)?),
            Some((first, last)) => {
                let (first, last) = (day(first)?, day(last)?);
                out.extend((0..=(last + 7 - first) % 7).map(|n| (first + n) % 7));
            }
        }
    }
    Some(out)
}

/// The hours that begin on a day; over midnight they end on the next.
fn on_day(day: u16, from: u16, to: u16) -> Vec<Window> {
    let start = day * DAY_MINUTES;
    if from < to {
        return vec![Window { from: start + from, to: start + to }];
    }
    let next = (start + DAY_MINUTES) % WEEK_MINUTES;
    vec![Window { from: start + from, to: start + DAY_MINUTES }, Window { from: next, to: next + to }]
}

/// Ascending, none empty; those that touch or overlap are one.
fn joined(mut all: Vec<Window>) -> Vec<Window> {
    all.retain(|w| w.from < w.to);
    all.sort_unstable();
    let mut out: Vec<Window> = vec![];
    for window in all {
        match out.last_mut() {
            Some(last) if window.from <= last.to => last.to = last.to.max(window.to),
            _ => out.push(window),
        }
    }
    out
}

fn labels(pairs: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let mut all = vec![];
    for pair in pairs {
        let fine = |t: &str| !t.is_empty() && t.len() <= MAX_ATTRIBUTE;
        match pair.split_once('=') {
            Some((name, value)) if fine(name) && fine(value) => {
                crate::gpus::check_label(name)?;
                all.push((name.to_owned(), value.to_owned()));
            }
            _ => return Err(Failure::usage(format!("--label: `{pair}` is not NAME=VALUE with at most {MAX_ATTRIBUTE} bytes each"))),
        }
    }
    all.sort();
    if let Some([(name, _), _]) = all.windows(2).find(|two| matches!(two, [(a, _), (b, _)] if a == b)) {
        return Err(Failure::usage(format!("--label: `{name}` is said twice")));
    }
    if all.len() > MAX_ATTRIBUTES {
        return Err(Failure::usage(format!("--label: {} where at most {MAX_ATTRIBUTES} can be said", all.len())));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(change: impl FnOnce(&mut LimitArgs)) -> Result<OfferLimits, String> {
        let mut args =
            LimitArgs { hours: vec![], longest: "24h".into(), shortest: None, most_jobs: None, price_lock: "24h".into(), label: vec![] };
        change(&mut args);
        limits(&args).map_err(|e| e.message)
    }

    fn hours(all: &[&str]) -> Vec<(u16, u16)> {
        let all = asked(|a| a.hours = all.iter().map(|h| (*h).to_string()).collect()).unwrap();
        all.windows.iter().map(|w| (w.from, w.to)).collect()
    }

    #[test]
    fn hours_are_intervals_of_the_week() {
        assert_eq!(hours(&[]), []);
        assert_eq!(hours(&["mon-fri/08:00-18:00"]), [480, 1920, 3360, 4800, 6240].map(|from| (from, from + 600)));
        assert_eq!(hours(&["sun/22:00-06:00"]), [(0, 360), (6 * 1440 + 1320, WEEK_MINUTES)], "over the end of the week");
        assert_eq!(hours(&["22:00-06:00"]).len(), 8, "midnight joins two days");
        assert_eq!(hours(&["00:00-24:00"]), [(0, WEEK_MINUTES)]);
        assert_eq!(hours(&["sat,sun/00:00-24:00", "sat/12:00-13:00"]), [(5 * 1440, WEEK_MINUTES)]);
        assert_eq!(hours(&["fri-mon/10:00-11:00"]).len(), 4);
    }

    #[test]
    fn nonsense_names_its_flag() {
        for bad in ["8-18", "08:00", "xyz/08:00-09:00", "25:00-26:00", "08:60-09:00", "09:00-09:00"] {
            assert!(asked(|a| a.hours = vec![bad.into()]).unwrap_err().starts_with("--hours:"), "{bad}");
        }
        let many = asked(|a| a.hours = (0..15).map(|n| format!("mon/{n:02}:00-{n:02}:30")).collect());
        assert!(many.unwrap_err().contains("at most 14"));
        assert!(asked(|a| a.longest = "1x".into()).unwrap_err().starts_with("--longest:"));
        assert!(asked(|a| a.shortest = Some("25h".into())).unwrap_err().starts_with("--longest: shorter"));
        assert!(asked(|a| a.most_jobs = Some(0)).unwrap_err().starts_with("--most-jobs:"));
        assert!(asked(|a| a.label = vec!["disk".into()]).unwrap_err().starts_with("--label:"));
        assert!(asked(|a| a.label = vec!["a=1".into(), "a=2".into()]).unwrap_err().contains("twice"));
        let fine = asked(|a| {
            a.label = vec!["disk=ssd".into(), "cpu=fast".into()];
            a.price_lock = "0".into();
        });
        let fine = fine.unwrap();
        assert_eq!(fine.attributes, [("cpu".into(), "fast".into()), ("disk".into(), "ssd".into())]);
        assert_eq!((fine.price_lock, fine.max_duration), (Millis(0), Millis(86_400_000)));
    }
}
