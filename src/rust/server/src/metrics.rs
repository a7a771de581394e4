//! What an operator watches: counts and times, never a login, a name or a value.
use crate::server::Server;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::time::Duration;

/// The media type of [`Metrics::told`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// In seconds: a read takes some tens of microseconds, a change waits for the disk, a password for its hash.
const BUCKETS: [f64; 13] = [50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 100e-3, 500e-3, 2.5, 10.0];

/// A route by its template, such as `/dip/publicapi/users/{login}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    method: &'static str,
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

type Times = Family<Route, Histogram, fn() -> Histogram>;

pub struct Metrics {
    registry: Registry,
    requests: Family<Outcome, Counter>,
    times: Times,
    refusals: Family<Kind, Counter>,
    reads: Counter,
    turned_away: Counter,
    connections: Gauge,
    tickets: Gauge,
    behind: Gauge,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut registry = Registry::with_prefix("dkusecrets");
        let requests = Family::default();
        let times = Times::new_with_constructor(|| Histogram::new(BUCKETS));
        let (refusals, reads, turned_away) = (Family::default(), Counter::default(), Counter::default());
        let (connections, tickets, behind) = (Gauge::default(), Gauge::default(), Gauge::default());
        registry.register("requests", "Requests answered, by route and status", requests.clone());
        registry.register("request_duration_seconds", "How long requests took, by route", times.clone());
        registry.register("refusals", "Requests refused, by kind", refusals.clone());
        registry.register("reads", "Answers that held values of secrets", reads.clone());
        registry.register("connections_refused", "Connections for which there was no room", turned_away.clone());
        registry.register("connections", "Connections that are open", connections.clone());
        registry.register("tickets", "Tickets that hold", tickets.clone());
        registry.register(
            "audit_events_not_on_disk",
            "Events of the audit log that the disk has not yet",
            behind.clone(),
        );
        Metrics { registry, requests, times, refusals, reads, turned_away, connections, tickets, behind }
    }
}

impl Metrics {
    /// A request that was answered. `route` is its template.
    pub fn answered(&self, method: &'static str, route: &str, status: u16, took: Duration) {
        self.times.get_or_create(&Route { method, route: route.into() }).observe(took.as_secs_f64());
        self.requests.get_or_create(&Outcome { method, route: route.into(), status }).inc();
    }

    /// `kind` is one of the kinds of problems.
    pub fn refused(&self, kind: &'static str) {
        self.refusals.get_or_create(&Kind { kind }).inc();
    }

    /// So many answers that held values.
    pub fn read(&self, answers: u64) {
        self.reads.inc_by(answers);
    }

    pub fn turned_away(&self) {
        self.turned_away.inc();
    }

    pub fn connections(&self, open: usize) {
        self.connections.set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    /// All of it as text, in OpenMetrics' form.
    pub fn told(&self, server: &Server) -> Result<String, std::fmt::Error> {
        self.tickets.set(i64::try_from(server.tickets_that_hold()).unwrap_or(i64::MAX));
        self.behind.set(i64::try_from(server.events_not_on_disk()).unwrap_or(i64::MAX));
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
