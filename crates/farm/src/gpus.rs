//! GPUs on the command line: what a machine is told to offer, what a network lets be leased, and how they are shown.
//!
//! Guarantees: where GPUs are not leased that is said before anything is sent; simulated ones are called that wherever offers are
//! listed. It looks at no device.

use crate::args::GpuArgs;
use crate::backend::{GpuOffer, ProductEngine, SimulatedGpu};
use crate::exit::Failure;
use crate::products::Cards;
use pasture_types::Resources;
use pasture_types::genesis::Params;
use pasture_types::gpu::{RESERVED_LABELS, SIMULATED};
use std::sync::Arc;

/// Refuses a job with GPUs on a network that leases none of that model.
pub(crate) fn can_be_leased(resources: &Resources, params: &Params) -> Result<(), Failure> {
    if resources.gpus.iter().all(|line| params.leases_gpu(&line.model)) {
        return Ok(());
    }
    let what = if leases_some(params) { "this network leases no GPUs of this model" } else { "this network leases no GPUs" };
    Err(not_here(&format!("{what}; nothing was charged"), params).next("leave --gpu out to run on a CPU"))
}

/// Whether a network leases GPUs of any model.
fn leases_some(params: &Params) -> bool {
    params.market.gpu_leases || (params.audits.active && !params.audits.gpus.is_empty())
}

/// Refuses to offer GPUs where they are not leased, and simulated ones outside of development.
pub(crate) fn can_be_offered(offer: Option<&GpuOffer>, params: &Params) -> Result<(), Failure> {
    match offer {
        Some(GpuOffer::Simulated(_)) if !params.dev => {
            Err(not_here("simulated GPUs are for trying things out: only a development network takes them, and this is none", params)
                .next("a network of your own:  farm dev --simulated-gpu H100:2:80GB"))
        }
        Some(_) if !leases_some(params) => {
            Err(not_here("this network leases no GPUs; nothing was offered", params)
                .next("leave --gpus out to offer the rest of the machine"))
        }
        _ => Ok(()),
    }
}

fn not_here(what: &str, params: &Params) -> Failure {
    let models: Vec<&str> = params.audits.gpus.iter().map(|rate| rate.model.as_str()).collect();
    let why = match &models[..] {
        _ if !params.audits.active => "only development networks lease GPUs that no capacity check has proven".to_owned(),
        [] => "its capacity checks ask nothing of GPUs".to_owned(),
        models => format!("those that its capacity checks prove: {}", models.join(", ")),
    };
    Failure::new("no-gpu", format!("{what}\n{why}"))
}

/// What a machine is told to offer.
pub(crate) fn offer(args: &GpuArgs) -> Result<Option<GpuOffer>, Failure> {
    if !args.simulated_gpu.is_empty() {
        let kinds = args.simulated_gpu.iter().map(|text| text.parse::<SimulatedGpu>());
        let kinds = kinds.collect::<Result<_, _>>().map_err(|e| Failure::usage(format!("--simulated-gpu: {e}")))?;
        return Ok(Some(GpuOffer::Simulated(kinds)));
    }
    let Some(text) = &args.gpus else { return Ok(None) };
    if text == "all" {
        return Ok(Some(GpuOffer::Real(vec![])));
    }
    let ids: Vec<String> = text.split(',').map(|id| id.trim().to_owned()).collect();
    if let Some(bad) = ids.iter().find(|id| !id.starts_with("GPU-")) {
        return Err(Failure::usage(format!("--gpus: `{bad}` is neither all nor the id of a GPU; nvidia-smi -L lists them")));
    }
    Ok(Some(GpuOffer::Real(ids)))
}

/// What computes the products that capacity checks ask of them: this machine's own cards, where it offers those.
pub(crate) fn engine(offer: Option<&GpuOffer>) -> Option<Arc<dyn ProductEngine>> {
    matches!(offer, Some(GpuOffer::Real(_))).then(Cards::engine)
}

/// Refuses what an owner may not say of a machine: its driver speaks for itself.
pub(crate) fn check_label(name: &str) -> Result<(), Failure> {
    if name.starts_with(RESERVED_LABELS) {
        return Err(Failure::usage(format!("--label: `{name}`: names that begin with {RESERVED_LABELS} are set by the machine itself")));
    }
    Ok(())
}

/// Said behind resources that are offered.
pub(crate) fn remark(attributes: &[(String, String)]) -> &'static str {
    if attributes.iter().any(|(name, _)| name == SIMULATED) { " (GPUs simulated)" } else { "" }
}

/// A condition on the driver in words; `None` if it is another one.
pub(crate) fn condition(name: &str) -> Option<String> {
    let (what, version) = name.strip_prefix(RESERVED_LABELS)?.split_once('.')?;
    match what {
        "cuda" => Some(format!("CUDA {version} or newer")),
        "driver" => Some(format!("GPU driver {version} or newer")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_types::GpuLine;
    use pasture_types::audit::GpuRate;

    fn args(gpus: Option<&str>, simulated: &[&str]) -> GpuArgs {
        GpuArgs { gpus: gpus.map(str::to_owned), simulated_gpu: simulated.iter().map(|s| (*s).to_owned()).collect() }
    }

    #[test]
    fn what_is_offered_is_read_and_mistakes_name_the_flag() {
        assert_eq!(offer(&args(None, &[])).unwrap(), None);
        assert_eq!(offer(&args(Some("all"), &[])).unwrap(), Some(GpuOffer::Real(vec![])));
        assert_eq!(offer(&args(Some("GPU-1, GPU-2"), &[])).unwrap(), Some(GpuOffer::Real(vec!["GPU-1".into(), "GPU-2".into()])));
        assert!(matches!(offer(&args(None, &["H100:2:80GB", "T4:1:16GB"])).unwrap(), Some(GpuOffer::Simulated(kinds)) if kinds.len() == 2));
        for (bad, flag) in [(args(Some("0"), &[]), "--gpus: `0`"), (args(None, &["H100"]), "--simulated-gpu: `H100`")] {
            let e = offer(&bad).unwrap_err();
            assert!(e.message.starts_with(flag), "{e:?}");
            assert_eq!(e.exit.code(), 2);
        }
        assert!(check_label("gpu.cuda.13.0").is_err() && check_label("gpus").is_ok());
        assert_eq!(condition("gpu.cuda.12.2").as_deref(), Some("CUDA 12.2 or newer"));
        assert_eq!((condition("gpu.simulated"), condition("disk")), (None, None));
    }

    #[test]
    fn gpus_stay_in_development_networks() {
        let job = Resources { gpus: vec![GpuLine { model: "H100".into(), count: 1, vram_bytes: 0 }], ..Resources::default() };
        let (dev, production) = (Params::dev(), Params::production());
        assert!(can_be_leased(&job, &dev).is_ok() && can_be_leased(&Resources::default(), &production).is_ok());
        assert_eq!(can_be_leased(&job, &production).unwrap_err().code, "no-gpu");
        for offer in [GpuOffer::Real(vec![]), GpuOffer::Simulated(vec![])] {
            assert!(can_be_offered(Some(&offer), &dev).is_ok());
            assert_eq!(can_be_offered(Some(&offer), &production).unwrap_err().code, "no-gpu");
        }
        assert!(can_be_offered(None, &production).is_ok());
        // Where capacity checks prove a model, it is leased, and no other.
        let mut proving = production.audited();
        proving.audits.gpus = vec![GpuRate { model: "H100".into(), macs_per_s: 1 << 40 }];
        assert!(can_be_leased(&job, &proving).is_ok() && can_be_offered(Some(&GpuOffer::Real(vec![])), &proving).is_ok());
        let other = Resources { gpus: vec![GpuLine { model: "T4".into(), count: 1, vram_bytes: 0 }], ..Resources::default() };
        assert!(can_be_leased(&other, &proving).unwrap_err().message.ends_with("prove: H100"));
    }
}
