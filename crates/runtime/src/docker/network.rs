//! A network for each instance. Guarantees: its own bridge, its own small subnet, never shared, found again by name.
//! Does not: filter what leaves it (see [`super::firewall`]), offer IPv6, connect two instances.

use std::{collections::HashMap, net::Ipv4Addr, time::Duration};

use bollard::{
    errors::Error,
    models::{Ipam, IpamConfig, NetworkCreateRequest, NetworkDisconnectRequest},
    query_parameters::{InspectNetworkOptions, ListNetworksOptionsBuilder},
};

use super::{
    Inner,
    firewall::BRIDGE_PREFIX,
    podman,
    probe::found,
    workload::{Names, base_labels},
};
use crate::{InstanceKey, LABEL_INSTANCE, LABEL_OWNER, Owner, RuntimeError};

/// 16 addresses: network, gateway, broadcast, and room for the one instance.
const SUBNET_PREFIX: u8 = 28;
/// Subnets tried before giving up; each is as likely to be free as the pool is empty.
const MAX_SUBNET_ATTEMPTS: u32 = 64;
/// Looks at a network that the engine is still making, or still removing, for a call that was cut off.
const MAX_HALF_MADE_LOOKS: u32 = 100;
/// Pause between these looks.
const HALF_MADE_PAUSE: Duration = Duration::from_millis(50);

/// Part of what an engine says when it has a bridge for a name that it does not show yet, or no longer: the bridge is made before the
/// network can be seen, and outlives it for a moment.
const SAME_BRIDGE: &str = "networks have same bridge name";

impl Inner {
    /// The network of this instance, made if missing; returns its name.
    pub(super) async fn ensure_network(&self, owner: &Owner, key: &InstanceKey) -> Result<String, RuntimeError> {
        let names = Names::of(owner, key);
        if self.network_exists(&names.object).await? {
            return Ok(names.object);
        }
        let (mut attempt, mut looks) = (0, 0);
        while attempt < MAX_SUBNET_ATTEMPTS && looks < MAX_HALF_MADE_LOOKS {
            let request = NetworkCreateRequest {
                name: names.object.clone(),
                driver: Some("bridge".into()),
                ipam: Some(Ipam {
                    config: Some(vec![IpamConfig { subnet: Some(self.subnet(names.number, attempt)), ..Default::default() }]),
                    ..Default::default()
                }),
                enable_ipv6: Some(false),
                options: Some(HashMap::from([(
                    "com.docker.network.bridge.name".to_owned(),
                    format!("{BRIDGE_PREFIX}{}", names.bridge_suffix),
                )])),
                labels: Some(base_labels(owner, key)),
                ..Default::default()
            };
            match self.docker.create_network(request).await.map_err(podman::as_docker) {
                Ok(_) => return Ok(names.object),
                // Subnet taken, or made by a call beside this one; which of the two, only a look tells.
                Err(Error::DockerResponseServerError { status_code: 403 | 409 | 500, message }) => {
                    if self.network_exists(&names.object).await? {
                        return Ok(names.object);
                    }
                    if message.to_ascii_lowercase().contains("overlap") || podman::is_taken(&message) {
                        attempt += 1;
                    } else if message.contains(SAME_BRIDGE) {
                        looks += 1;
                        tokio::time::sleep(HALF_MADE_PAUSE).await;
                    } else {
                        return Err(RuntimeError::Engine { status: 403, message });
                    }
                }
                Err(error) => return Err(self.engine_error(error)),
            }
        }
        Err(RuntimeError::Conflict(format!(
            "no free network in {}/{} after {attempt} attempts and {looks} looks at one of the same name",
            self.config.subnet_pool.0, self.config.subnet_pool.1
        )))
    }

    async fn network_exists(&self, name: &str) -> Result<bool, RuntimeError> {
        let answer =
            found(self.docker.inspect_network(name, None::<InspectNetworkOptions>).await).map_err(|error| self.engine_error(error))?;
        Ok(answer.is_some())
    }

    fn subnet(&self, number: u64, attempt: u32) -> String {
        let (base, prefix) = self.config.subnet_pool;
        subnet(base, prefix, number, attempt)
    }

    /// Removes a network by name; nothing happens if there is none.
    pub(super) async fn remove_network(&self, name: &str, instance: Option<&str>) -> Result<(), RuntimeError> {
        match self.docker.remove_network(name).await.map_err(podman::as_docker) {
            // A container that has just died can still hold its place for a moment.
            Err(Error::DockerResponseServerError { status_code: 403 | 409, .. }) => {
                if let Some(container) = instance {
                    let request = NetworkDisconnectRequest { container: container.to_owned(), force: Some(true) };
                    found(self.docker.disconnect_network(name, request).await).map_err(|error| self.engine_error(error))?;
                }
                found(self.docker.remove_network(name).await.map_err(podman::as_docker)).map_err(|error| self.engine_error(error))?;
                Ok(())
            }
            other => found(other).map(drop).map_err(|error| self.engine_error(error)),
        }
    }

    /// Networks of this owner, with the key each was made for.
    pub(super) async fn list_networks(&self, owner: &Owner) -> Result<Vec<(String, InstanceKey)>, RuntimeError> {
        let filters = HashMap::from([("label", vec![format!("{LABEL_OWNER}={owner}")])]);
        let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
        let networks = self.docker.list_networks(Some(options)).await.map_err(|error| self.engine_error(error))?;
        let named = networks.into_iter().filter_map(|network| {
            let key = InstanceKey::parse(network.labels?.get(LABEL_INSTANCE)?).ok()?;
            Some((network.name?, key))
        });
        Ok(named.collect())
    }
}

/// The `attempt`-th subnet to try for an instance: spread by its number, so that two rarely want the same.
fn subnet(base: Ipv4Addr, prefix: u8, number: u64, attempt: u32) -> String {
    let prefix = prefix.clamp(12, 24);
    let count = 1u64 << (SUBNET_PREFIX - prefix);
    let index = u32::try_from((number % count + u64::from(attempt)) % count).unwrap_or(0);
    let mask = u32::MAX << (32 - u32::from(prefix));
    let address = (u32::from(base) & mask) | (index << (32 - u32::from(SUBNET_PREFIX)));
    format!("{}/{SUBNET_PREFIX}", Ipv4Addr::from(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_stay_in_the_pool_and_differ_by_attempt() {
        let pool = Ipv4Addr::new(10, 213, 7, 9);
        assert_eq!(subnet(pool, 16, 0, 0), "10.213.0.0/28");
        assert_eq!(subnet(pool, 16, 4095, 0), "10.213.255.240/28");
        assert_eq!(subnet(pool, 16, 4095, 1), "10.213.0.0/28");
        assert_eq!(subnet(pool, 16, u64::MAX, 0), "10.213.255.240/28");
        let tried: std::collections::BTreeSet<_> = (0..MAX_SUBNET_ATTEMPTS).map(|n| subnet(pool, 16, 77, n)).collect();
        assert_eq!(tried.len(), 64);
    }
}
