use std::time::{Duration, SystemTime};

use lloom_receipts::UnixSeconds;
use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::metrics::Label;

type Endpoint = [(&'static str, String); 1];
/// Endpoint, method and outcome.
type Request = (Endpoint, [Label; 2]);

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A result.
    Answered,
    /// An error of JSON-RPC, such as a call that reverts: the endpoint is well.
    Refused,
    /// Nothing that can be used.
    Unavailable,
}

impl Asked {
    const ALL: [Self; 3] = [Self::Answered, Self::Refused, Self::Unavailable];

    const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
        }
    }
}

/// How the endpoints of a chain do. They are named by host and port, never by a path, which may hold a key.
#[derive(Clone, Debug)]
pub struct RpcMetrics {
    requests: Family<Request, Counter>,
    seconds: Family<Endpoint, Histogram>,
    last_answer: Family<Endpoint, Gauge>,
}

impl Default for RpcMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.005, 2.0, 13))),
            last_answer: Family::default(),
        }
    }
}

impl RpcMetrics {
    /// Puts them into `registry`, which is prefixed with the program's name.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "rpc_requests",
            "JSON-RPC requests by endpoint, method and outcome",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "rpc_request_duration",
            "How long endpoints took to answer, or not to",
            Unit::Seconds,
            self.seconds.clone(),
        );
        registry.register_with_unit(
            "rpc_last_answer_timestamp",
            "When an endpoint answered last, Unix time; 0 before its first answer",
            Unit::Seconds,
            self.last_answer.clone(),
        );
    }

    /// Makes an endpoint appear before it is asked.
    pub(super) fn expect(&self, endpoint: &str) {
        for outcome in Asked::ALL {
            drop(
                self.requests
                    .get_or_create(&labels(endpoint, "eth_getBlockByNumber", outcome)),
            );
        }
        drop(self.last_answer.get_or_create(&name(endpoint)));
        drop(self.seconds.get_or_create(&name(endpoint)));
    }

    pub(super) fn asked(&self, endpoint: &str, method: &'static str, outcome: Asked, took: Duration) {
        self.requests.get_or_create(&labels(endpoint, method, outcome)).inc();
        self.seconds.get_or_create(&name(endpoint)).observe(took.as_secs_f64());
        if outcome != Asked::Unavailable {
            let now = UnixSeconds::from(SystemTime::now()).get();
            self.last_answer
                .get_or_create(&name(endpoint))
                .set(i64::try_from(now).unwrap_or(i64::MAX));
        }
    }
}

fn name(endpoint: &str) -> Endpoint {
    [("endpoint", endpoint.to_owned())]
}

fn labels(endpoint: &str, method: &'static str, outcome: Asked) -> Request {
    (name(endpoint), [("method", method), ("outcome", outcome.name())])
}
