//! What the server does with requests: its addresses, limits, gateway and logs.

use super::{Setting, setting};

pub(super) const SERVER: &[Setting] = &[
    setting(
        "server.grpc_addr",
        "127.0.0.1:50051",
        "Where gRPC is served",
    ),
    setting(
        "server.http_addr",
        "127.0.0.1:8080",
        "Where REST and the docs are served; `off`: nowhere",
    ),
    setting(
        "server.threads",
        "0",
        "Threads that answer requests; 0: as many as processors",
    ),
    setting(
        "server.data_dir",
        "data",
        "Where the embedded store is kept",
    ),
    setting(
        "server.message_bytes_max",
        "16777216",
        "The largest request message, bytes",
    ),
    setting(
        "server.answer_bytes_max",
        "67108864",
        "The largest answer, bytes: of the values that it reads, and of the message that REST passes on",
    ),
    setting(
        "server.connections_max",
        "4096",
        "Connections open at once on each listener; more wait",
    ),
    setting(
        "server.requests_in_flight_max",
        "1024",
        "Requests answered at once; those beyond are shed with RESOURCE_EXHAUSTED",
    ),
    setting(
        "server.request_ms_max",
        "30000",
        "How long a request may take where its caller sets no shorter deadline, ms",
    ),
    setting(
        "server.stream_idle_ms_max",
        "60000",
        "How long a stream of writes may be without a batch, ms",
    ),
    setting(
        "server.stream_requests_max",
        "8",
        "Requests of one StreamPredict that are scored at once; more are held up by flow control",
    ),
    setting(
        "server.health_interval_ms",
        "5000",
        "How often the store is asked whether it answers; health says NOT_SERVING while it does not, ms",
    ),
    setting(
        "server.drain_ms_max",
        "10000",
        "How long a stop waits for running requests, and then for the ledger to be written, ms",
    ),
    setting(
        "server.drain_delay_ms",
        "200",
        "How long a stop goes on answering after health says NOT_SERVING, so that load balancers notice, ms",
    ),
    setting("limits.entities_max", "10000", "Entities or rows a request"),
    setting("limits.features_max", "1000", "Features a request"),
    setting(
        "limits.values_max",
        "300000",
        "Values a request: entities or rows times features, rows times inputs",
    ),
    setting(
        "limits.definitions_bytes_max",
        "1048576",
        "Bytes of a definitions file",
    ),
    setting(
        "limits.materializations_max",
        "2",
        "Materializations that callers run at once; those beyond are refused with RESOURCE_EXHAUSTED",
    ),
    setting(
        "gateway.cors_allowed_origins",
        "",
        "Web origins that may call REST, a list (in the environment parted by `;`); `*`: any",
    ),
    setting(
        "gateway.aliases",
        "",
        "Further URLs for a route, a list, as `POST /predict -> POST /v1/models/credit_risk:predictByEntity`",
    ),
    setting(
        "telemetry.log_filter",
        "info,refinery_core=warn,tokio_postgres=warn",
        "What is logged, as `info,ferrocast=debug`",
    ),
    setting(
        "telemetry.log_format",
        "auto",
        "`text`, `json`, or `auto`: text on a terminal, JSON otherwise",
    ),
    setting(
        "telemetry.log_lines_max",
        "10000",
        "Log lines that may wait to be written; those beyond are lost, and counted at the end, so that requests do not wait for who reads them",
    ),
];
