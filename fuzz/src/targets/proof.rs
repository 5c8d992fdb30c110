//! What a client is shown by a gateway that it does not trust: state proofs, certificates, validator sets. Nothing made from a
//! sound proof by changing it may verify for the same question.

use crate::light::{frozen, trusted};
use pasture_light::{Certificate, StateProof, ValidatorSet, verify};

/// Takes one input; a broken promise panics.
pub fn run(data: &[u8]) {
    let Some((which, data)) = data.split_first() else { return };
    let trusted = trusted();
    match which % 4 {
        0 => {
            let Ok(proof) = StateProof::decode(data) else { return };
            assert_eq!(proof.encode(), data, "a second encoding of the same proof");
            // Whoever finds a proof that holds found one of those that are frozen, or of what lies between the same neighbours.
            if let Ok(shown) = verify(&trusted, &proof) {
                assert!(frozen().iter().any(|f| f.headers == proof.headers && (shown.value.is_none() || f.value == shown.value)));
            }
        }
        1 => {
            // The store's part alone, behind a header that is certified.
            for sound in frozen() {
                let changed = StateProof { store: data.to_vec(), ..sound.clone() };
                assert!(verify(&trusted, &changed).is_err() || changed == *sound);
            }
        }
        2 => {
            if let Ok(certificate) = Certificate::decode(data) {
                let sound = frozen().iter().any(|f| f.certificate == data);
                assert!(certificate.verify(&trusted).is_err() || sound);
            }
        }
        _ => {
            if let Ok(set) = ValidatorSet::decode(data) {
                assert!(set.quorum() * 3 > set.len() * 2 && set.quorum() <= set.len());
                assert_eq!(ValidatorSet::decode(&set.encode()), Ok(set));
            }
        }
    }
}
