//! The user's secrets: where they are kept, and which of them a job gets.
//!
//! Guarantees: values leave this machine only sealed for the machine that runs the job; a job that names one that is not here is
//! refused before anything is sent. They lie in the configuration folder, locked with a key made from the account's (`keyring.rs`):
//! whoever has that folder alone has nothing.

use crate::exit::Failure;
use pasture_api::secrets::{MAX_SECRETS_BYTES, Secrets};
use pasture_store::Vault;
use pasture_types::keep::{SecretMount, SecretTarget};

/// The values that a job needs.
pub(crate) fn collect(vault: &Vault, wanted: &[SecretMount]) -> Result<Secrets, Failure> {
    let mut secrets = Secrets::default();
    let mut bytes = 0usize;
    for SecretMount { name, target } in wanted {
        let value = vault.get(name)?.ok_or_else(|| {
            Failure::new("no-secret", format!("you have no secret `{name}`; nothing was sent"))
                .next(format!("keep it:  farm secret set {name} --from-file FILE"))
                .next("see which you have:  farm secret list")
        })?;
        if let SecretTarget::Env(variable) = target
            && value.contains(&0)
        {
            return Err(Failure::new("bad-secret", format!("secret `{name}` has a zero byte, so {variable} cannot hold it"))
                .next(format!("give it as a file:  --secret {name}=/run/secrets/{name}")));
        }
        bytes = bytes.saturating_add(name.len()).saturating_add(value.len()).saturating_add(16);
        secrets.0.insert(name.clone(), value);
    }
    if bytes > MAX_SECRETS_BYTES {
        return Err(Failure::new("bad-secret", format!("the secrets of a job have at most {MAX_SECRETS_BYTES} bytes together")));
    }
    Ok(secrets)
}
