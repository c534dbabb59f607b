//! Throw-away Redis servers for a test run: one alone, and three that are a cluster.
//!
//! They keep nothing on disk but a cluster's own notes, listen on free ports of the loopback interface, ask for a password,
//! and go away with the test process however that ends.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{guard::Guard, postgres::free_port};

const FORMATION_WAIT_MAX: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How often other free ports are tried: another process may have taken one before our server does.
const PORTS_TRIED_MAX: usize = 10;

const SLOTS: u16 = 16_384;
const NODES: u16 = 3;

/// Starts the server on the ports that its standard input names, stops it, and starts it again, empty; at the end of the
/// input it stops the server and takes its folder away.
const GUARD: &str = r#"
pid=
halt() { [ -n "$pid" ] && kill -CONT "$pid" 2>/dev/null; [ -n "$pid" ] && kill -KILL "$pid" 2>/dev/null && wait "$pid"; pid=; }
start() {
    : >"$DIR/log"
    redis-server "$DIR/redis.conf" --port "$1" $2 >>"$DIR/log" 2>&1 &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        if grep -q 'Ready to accept connections' "$DIR/log"; then echo started; return; fi
        sleep 0.02
    done
    pid=
    echo failed
}
while read -r order port options; do
    case "$order" in
        stop) halt; echo stopped ;;
        pause) kill -STOP "$pid"; echo paused ;;
        resume) kill -CONT "$pid"; echo resumed ;;
        start) start "$port" "$options" ;;
    esac
done
halt
rm -rf "$DIR"
"#;

/// A server of our own.
pub struct Redis {
    port: u16,
    options: String,
    password: String,
    dir: PathBuf,
    guard: Guard,
}

impl Redis {
    /// The server that all tests of a process share, a prefix each; started when first asked for.
    pub fn shared() -> &'static Redis {
        static SHARED: OnceLock<Redis> = OnceLock::new();
        SHARED.get_or_init(Redis::start)
    }

    /// Starts a server. Blocks until it takes connections.
    pub fn start() -> Redis {
        Redis::start_with(&new_password(), "", String::new)
    }

    /// Starts a server with further lines of configuration.
    pub fn start_configured(lines: &str) -> Redis {
        Redis::start_with(&new_password(), lines, String::new)
    }

    /// Starts a server that speaks TLS on its second port, with a certificate and its key in files.
    pub fn start_tls(certificate: &Path, key: &Path) -> Redis {
        let lines = format!(
            "tls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\ntls-auth-clients no",
            certificate.display(),
            key.display(),
            certificate.display()
        );
        let second = || format!("--tls-port {}", free_port());
        Redis::start_with(&new_password(), &lines, second)
    }

    /// The URL of the port that speaks TLS, at a host of the test's choice.
    pub fn tls_url(&self, host: &str) -> String {
        let port = self.second_port();
        format!("rediss://:{}@{host}:{port}", self.password)
    }

    /// The cluster's bus, or the port that speaks TLS.
    fn second_port(&self) -> &str {
        self.options.rsplit(' ').next().unwrap()
    }

    fn start_with(password: &str, lines: &str, mut options: impl FnMut() -> String) -> Redis {
        let dir = tempfile::Builder::new()
            .prefix("ferrocast-redis-")
            .tempdir()
            .expect("a folder for a throw-away Redis")
            .keep();
        let configuration = format!(
            "bind 127.0.0.1\ndir {}\nsave \"\"\nappendonly no\nrequirepass {password}\nmasterauth {password}\n\
             enable-debug-command yes\n{lines}\n",
            dir.display()
        );
        fs::write(dir.join("redis.conf"), configuration).unwrap();
        check_program();
        let mut command = Command::new("sh");
        command.current_dir(&dir).env("DIR", &dir);
        let mut redis = Redis {
            port: 0,
            options: String::new(),
            password: password.to_owned(),
            dir,
            guard: Guard::start(command, GUARD),
        };
        for _ in 0..PORTS_TRIED_MAX {
            redis.port = free_port();
            redis.options = options();
            if redis.start_server() {
                return redis;
            }
        }
        panic!("no Redis on any port; its log:\n{}", redis.log());
    }

    /// Ends the server at once, as a crash would; all that it held is lost.
    pub fn stop(&self) {
        assert_eq!(self.guard.order("stop"), "stopped", "{}", self.log());
    }

    /// Starts the server again, on the same port and empty.
    pub fn start_again(&self) {
        assert!(self.start_server(), "{}", self.log());
    }

    /// Makes the server stand still, as a machine in trouble would: connections stay, and nothing answers.
    pub fn pause(&self) {
        assert_eq!(self.guard.order("pause"), "paused");
    }

    /// Makes it go on.
    pub fn resume(&self) {
        assert_eq!(self.guard.order("resume"), "resumed");
    }

    /// The server's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The password, which no message may show.
    pub fn password(&self) -> &str {
        &self.password
    }

    pub fn url(&self) -> String {
        format!("redis://:{}@127.0.0.1:{}", self.password, self.port)
    }

    /// Runs a command by hand.
    pub fn run(&self, command: &redis::Cmd) -> redis::Value {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_connection().expect("a connection by hand");
        command.query(&mut connection).unwrap()
    }

    fn start_server(&self) -> bool {
        let order = format!("start {} {}", self.port, self.options);
        self.guard.order(&order) == "started"
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

/// Three servers that are a cluster, without replicas but where a test wants one.
pub struct RedisCluster {
    pub nodes: Vec<Redis>,
    password: String,
}

impl RedisCluster {
    /// The cluster that all tests of a process share, a prefix each; formed when first asked for.
    pub fn shared() -> &'static RedisCluster {
        static SHARED: OnceLock<RedisCluster> = OnceLock::new();
        SHARED.get_or_init(RedisCluster::start)
    }

    /// Starts a cluster. Blocks until all nodes say that it is whole.
    pub fn start() -> RedisCluster {
        let password = new_password();
        let nodes = (0..NODES).map(|_| start_node(&password));
        let cluster = RedisCluster {
            nodes: nodes.collect(),
            password: password.clone(),
        };
        for (index, node) in (0..NODES).zip(&cluster.nodes) {
            let first = SLOTS / NODES * index;
            let last = if index + 1 == NODES {
                SLOTS - 1
            } else {
                SLOTS / NODES * (index + 1) - 1
            };
            node.run(
                redis::cmd("CLUSTER")
                    .arg("ADDSLOTSRANGE")
                    .arg(first)
                    .arg(last),
            );
            cluster.meet(node);
        }
        cluster.await_wholeness();
        cluster
    }

    /// Adds a replica of the first node; returns when it has what that has.
    pub fn add_replica(&self) -> Redis {
        let replica = start_node(&self.password);
        self.meet(&replica);
        let id = self.nodes[0].run(redis::cmd("CLUSTER").arg("MYID"));
        let id: String = redis::from_redis_value(id).unwrap();
        let client = redis::Client::open(replica.url()).unwrap();
        let mut connection = client.get_connection().unwrap();
        let mut replicate = redis::cmd("CLUSTER");
        replicate.arg("REPLICATE").arg(id);
        // It has to have heard of the node first.
        await_that(|| replicate.query::<()>(&mut connection).is_ok());
        await_that(|| {
            let info = replica.run(redis::cmd("INFO").arg("replication"));
            let info: String = redis::from_redis_value(info).unwrap();
            info.contains("master_link_status:up") && info.contains("master_sync_in_progress:0")
        });
        // The others have to know it for what it is, to vote for it.
        for node in &self.nodes {
            await_that(|| {
                let nodes = node.run(redis::cmd("CLUSTER").arg("NODES"));
                let nodes: String = redis::from_redis_value(nodes).unwrap();
                nodes.contains(" slave ")
            });
        }
        replica
    }

    /// Waits until a replica has all that the first node has.
    pub fn await_replica(&self, replica: &Redis) {
        let offset = |node: &Redis| {
            let info = node.run(redis::cmd("INFO").arg("replication"));
            let info: String = redis::from_redis_value(info).unwrap();
            let mut lines = info.lines();
            let line = lines.find(|line| line.starts_with("master_repl_offset:"));
            line.map(str::to_owned)
        };
        await_that(|| offset(&self.nodes[0]) == offset(replica));
    }

    fn meet(&self, node: &Redis) {
        let mut meet = redis::cmd("CLUSTER");
        meet.arg("MEET").arg("127.0.0.1").arg(node.port);
        meet.arg(node.second_port());
        self.nodes[0].run(&meet);
    }

    /// Waits until every node says that all slots are served by nodes that it knows.
    pub fn await_wholeness(&self) {
        for node in &self.nodes {
            await_that(|| {
                let info = node.run(redis::cmd("CLUSTER").arg("INFO"));
                let info: String = redis::from_redis_value(info).unwrap();
                [
                    "cluster_state:ok",
                    "cluster_slots_ok:16384",
                    "cluster_known_nodes:3",
                ]
                .iter()
                .all(|line| info.contains(line))
            });
        }
    }

    /// A URL a node.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::url).collect()
    }

    /// Runs a command by hand on every node.
    pub fn run_everywhere(&self, command: &redis::Cmd) -> Vec<redis::Value> {
        self.nodes.iter().map(|node| node.run(command)).collect()
    }
}

/// A prefix for the keys of one test.
pub fn fresh_prefix() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Waits for something that takes its time.
fn await_that(mut is_so: impl FnMut() -> bool) {
    let give_up_at = Instant::now() + FORMATION_WAIT_MAX;
    while !is_so() {
        assert!(Instant::now() < give_up_at, "the servers do not get there");
        std::thread::sleep(POLL_INTERVAL);
    }
}

fn start_node(password: &str) -> Redis {
    let lines = "cluster-enabled yes\ncluster-node-timeout 3000\ncluster-require-full-coverage no";
    let bus = || format!("--cluster-port {}", free_port());
    Redis::start_with(password, lines, bus)
}

fn new_password() -> String {
    format!("secret-{}", uuid::Uuid::now_v7().simple())
}

fn check_program() {
    let answer = Command::new("redis-server").arg("--version").output();
    assert!(
        answer.is_ok_and(|answer| answer.status.success()),
        "these tests need the program `redis-server` on the PATH; \
         install it (Debian: apt-get install redis-server; macOS: brew install redis)"
    );
}
