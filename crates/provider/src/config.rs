//! Options of a provider: documented fields with units, and a check.

use crate::ProviderError;
use crate::audits::{MemoryEngine, ProductEngine};
use crate::failpoint::Failpoint;
use crate::gpus::Gpus;
use pasture_api::{ANNOUNCE_EVERY, ANNOUNCED_FOR};
use pasture_types::grant::EnrollCode;
use pasture_types::market::OfferTerms;
use pasture_types::tx::MAX_LANES;
use pasture_types::{AccountId, Amount, SigningKey};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Lanes of a node's own key that lifecycle transactions use; one transaction at a time in each.
pub(crate) const NODE_LANES: u8 = 4;

/// What a provider does about a deposit that is missing.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum MissingDeposit {
    /// Posts it if its account has the credits; else begins without.
    #[default]
    Post,
    /// Begins without, whatever its account has: a proof of work stands in, and what it earns is kept for the deposit.
    Earn,
}

/// In whose name a machine is offered, and by what right.
#[derive(Clone)]
pub enum Mandate {
    /// With a key of the account, which pays and earns.
    Key(SigningKey),
    /// For an account whose key is elsewhere (`docs/specs/accounts.md` §1.6): a fleet's code adds the node once, and from then on the node's
    /// own key says all there is to say.
    Enrolled {
        /// Which account pays and earns.
        account: AccountId,
        /// The fleet's code; needed until the node is registered.
        code: Option<EnrollCode>,
    },
}

impl Mandate {
    /// The account that pays and earns.
    #[must_use]
    pub fn account(&self) -> AccountId {
        match self {
            Self::Key(key) => key.account(),
            Self::Enrolled { account, .. } => *account,
        }
    }
}

/// How a provider runs.
#[derive(Clone)]
pub struct Options {
    /// Directory for records, logs and outputs; one process at a time.
    pub data_dir: PathBuf,
    /// The node's key.
    pub node_key: SigningKey,
    /// For which account it is offered.
    pub mandate: Mandate,
    /// The provider's name, for people; at most 64 bytes.
    pub provider_name: String,
    /// Lane of the provider's account for its own transactions, apart from what the owner's other programs use.
    pub provider_lane: u8,
    /// Where the data plane listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where it can be called peer to peer, if it can: then that is what it announces.
    pub endpoint: Option<pasture_net::Endpoint>,
    /// Exactly what is offered, and at which price.
    pub offer: OfferTerms,
    /// The GPUs that are assigned to leases, if it offers some.
    pub gpus: Option<Gpus>,
    /// What computes the products that capacity audits ask of its GPUs; without it the CPU does for simulated ones, and nothing for others.
    pub product_engine: Option<Arc<dyn ProductEngine>>,
    /// Where the tables lie that capacity audits ask of its memory; without it in this machine's memory.
    pub memory_engine: Option<Arc<dyn MemoryEngine>>,
    /// What it does about a deposit that is missing.
    pub missing_deposit: MissingDeposit,
    /// How much of the speed that its benchmark shows it declares, in percent: capacity audits hold it to that.
    pub declared_percent: u8,
    /// Most to pay for one transaction.
    pub max_fee: Amount,
    /// How long a client may take to hand over the manifest.
    pub manifest_wait: Duration,
    /// How long the build context may make no progress.
    pub context_wait: Duration,
    /// Largest build context in bytes.
    pub max_context_bytes: u64,
    /// Largest image in bytes, base layers included.
    pub max_image_bytes: u64,
    /// Most bytes of images that are kept, those in use aside.
    pub max_images_bytes: u64,
    /// What it keeps of images, for itself and for other machines.
    pub blobs: crate::BlobOptions,
    /// Largest output kept, in bytes.
    pub max_output_bytes: u64,
    /// Largest log kept per lease, in bytes of frames.
    pub max_log_bytes: u64,
    /// Longest build, whatever the manifest says.
    pub max_build_time: Duration,
    /// Bytes of disk that must stay free when a context or an output is taken.
    pub reserve_disk_bytes: u64,
    /// How long logs and output are kept after the end.
    pub retention: Duration,
    /// What is kept of volumes.
    pub volumes: crate::VolumeOptions,
    /// How long [`crate::ShutdownMode::Drain`] waits for leases to close.
    pub drain_deadline: Duration,
    /// How often the data plane's address is announced again; well within [`pasture_api::ANNOUNCED_FOR`].
    pub announce_every: Duration,
    /// Called at every point of [`crate::FAILPOINTS`]; for tests.
    pub failpoint: Option<Failpoint>,
}

impl Options {
    /// Options with the defaults of this version.
    #[must_use]
    pub fn new(data_dir: PathBuf, node_key: SigningKey, mandate: Mandate, provider_name: String, offer: OfferTerms) -> Self {
        Self {
            data_dir,
            node_key,
            mandate,
            provider_name,
            provider_lane: 32,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            endpoint: None,
            offer,
            gpus: None,
            product_engine: None,
            memory_engine: None,
            missing_deposit: MissingDeposit::default(),
            declared_percent: 100,
            max_fee: Amount(100_000_000),
            manifest_wait: Duration::from_secs(60),
            context_wait: Duration::from_secs(600),
            max_context_bytes: 1 << 30,
            max_image_bytes: 20 << 30,
            max_images_bytes: 20 << 30,
            blobs: crate::BlobOptions::default(),
            max_output_bytes: 10 << 30,
            max_log_bytes: 256 << 20,
            max_build_time: Duration::from_secs(1800),
            reserve_disk_bytes: 512 << 20,
            retention: Duration::from_secs(7 * 24 * 3600),
            volumes: crate::VolumeOptions::default(),
            drain_deadline: Duration::from_secs(60),
            announce_every: Duration::from_millis(ANNOUNCE_EVERY.0),
            failpoint: None,
        }
    }

    /// Checks that the options make sense together.
    ///
    /// # Errors
    /// [`ProviderError::Options`] names the first field that does not.
    pub fn validate(&self) -> Result<(), ProviderError> {
        let bad = |field, problem: String| Err(ProviderError::Options { field, problem });
        if self.provider_name.is_empty() || self.provider_name.len() > 64 {
            return bad("provider_name", "1 to 64 bytes are needed".into());
        }
        if self.provider_lane >= MAX_LANES {
            return bad("provider_lane", format!("{} is not a lane: 0 to {}", self.provider_lane, MAX_LANES - 1));
        }
        if !self.listen.ip().is_loopback() {
            return bad("listen", format!("{} is not a loopback address: clients reach a node through a gateway", self.listen));
        }
        if !(1..=100).contains(&self.declared_percent) {
            return bad("declared_percent", format!("{} is not from 1 to 100", self.declared_percent));
        }
        let r = &self.offer.resources;
        if r.cpu_millis == 0 || r.memory_bytes == 0 {
            return bad("offer", "an offer without CPU or memory serves nobody".into());
        }
        if let Some(problem) = Gpus::problem(self.gpus.as_ref(), r) {
            return bad("offer", problem);
        }
        if self.max_log_bytes < 1 << 20 {
            return bad("max_log_bytes", "at least 1 MiB is needed".into());
        }
        if self.announce_every.is_zero() || self.announce_every >= Duration::from_millis(ANNOUNCED_FOR.0) {
            return bad("announce_every", format!("an address counts for {} s: announce it more often", ANNOUNCED_FOR.0 / 1000));
        }
        for (field, wait) in
            [("manifest_wait", self.manifest_wait), ("context_wait", self.context_wait), ("max_build_time", self.max_build_time)]
        {
            if wait.is_zero() {
                return bad(field, "no time at all ends every lease".into());
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("data_dir", &self.data_dir)
            .field("node", &self.node_key.node_id())
            .field("provider", &self.mandate.account())
            .field("listen", &self.listen)
            .field("offer", &self.offer)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use pasture_types::market::{Egress, Rates};
    use pasture_types::{AssetId, Millis, Resources};

    pub(crate) fn options(dir: PathBuf) -> Options {
        let offer = OfferTerms {
            resources: Resources { cpu_millis: 1000, memory_bytes: 64 << 20, disk_bytes: 1 << 20, ..Resources::default() },
            rates: Rates::default(),
            asset: AssetId::CREDIT,
            region: "local".into(),
            egress: Egress::Open,
            max_duration: Millis::secs(3600),
            ..OfferTerms::default()
        };
        Options::new(dir, SigningKey::from_seed([1; 32]), Mandate::Key(SigningKey::from_seed([2; 32])), "here".into(), offer)
    }

    #[test]
    fn nonsense_is_refused_by_field() {
        let good = options("/nowhere".into());
        good.validate().unwrap();
        type Break = fn(&mut Options);
        let cases: [(&str, Break); 8] = [
            ("offer", |o| o.offer.resources.gpus = vec![pasture_types::GpuLine { model: "H100".into(), count: 1, vram_bytes: 1 }]),
            ("provider_name", |o| o.provider_name.clear()),
            ("provider_lane", |o| o.provider_lane = 64),
            ("declared_percent", |o| o.declared_percent = 0),
            ("listen", |o| o.listen = ([0, 0, 0, 0], 0).into()),
            ("offer", |o| o.offer.resources.cpu_millis = 0),
            ("announce_every", |o| o.announce_every = Duration::from_secs(180)),
            ("manifest_wait", |o| o.manifest_wait = Duration::ZERO),
        ];
        for (name, change) in cases {
            let mut o = good.clone();
            change(&mut o);
            assert!(matches!(o.validate(), Err(ProviderError::Options { field, .. }) if field == name), "{name}");
        }
        assert!(!format!("{good:?}").contains("SigningKey"));
    }
}
