//! A throw-away PostgreSQL for a test run.
//!
//! Takes the programs of an installed PostgreSQL, keeps its data in a folder of its own, listens on a free port of the
//! loopback interface, and goes away with the test process however that ends: a small shell stands guard and sees its
//! standard input close.
//!
//! Used by several test binaries, each of which needs only a part.
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
    io::Write,
    net::TcpListener,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio_postgres::NoTls;

use crate::guard::Guard;

/// The superuser, for whom the tests connect.
pub const USER: &str = "postgres";

const START_WAIT_MAX: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How often another free port is tried: another process may have taken one before our server does.
const PORTS_TRIED_MAX: usize = 10;

/// Starts the server on the port that its standard input names, stops it, and starts it again; makes it stand still with
/// the processes that the input names, and go on; at the end of the input it stops the server and takes its folder away.
///
/// A server is started when its own process has written down that it takes connections, and has failed when that process
/// is gone. The waiting runs a program each time, so that the shell notices the end of its child.
const GUARD: &str = r#"
pid=
halt() {
    [ -n "$pid" ] || return
    # Whoever hangs hears nothing; and a killed server leaves its children hanging.
    hung="$pid $(pgrep -P "$pid")"
    kill "-${1:-QUIT}" "$pid" 2>/dev/null && kill -CONT $hung 2>/dev/null
    wait "$pid"
    pid=
}
is_ready() {
    status="$DIR/data/postmaster.pid"
    [ "$(sed -n 1p "$status" 2>/dev/null)" = "$pid" ] && sed -n 8p "$status" 2>/dev/null | grep -q ready
}
start() {
    "$BIN/postgres" -D "$DIR/data" -p "$1" >>"$DIR/log" 2>&1 &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        if is_ready; then echo started; return; fi
        sleep 0.05
    done
    pid=
    echo failed
}
while read -r order port; do
    case "$order" in
        pause) kill -STOP "$pid" $port; echo paused ;;
        resume) kill -CONT "$pid" $port; echo resumed ;;
        stop) halt; echo stopped ;;
        kill) halt KILL; echo stopped ;;
        hang) kill -STOP "$pid"; kill -STOP $(pgrep -P "$pid"); echo paused ;;
        unhang) kill -CONT $(pgrep -P "$pid"); kill -CONT "$pid"; echo resumed ;;
        start) start "$port" ;;
    esac
done
halt
rm -rf "$DIR"
"#;

/// Files for a server that speaks TLS, in PEM.
pub struct ServerTls {
    /// Its certificate.
    pub certificate: String,
    /// The certificate's private key.
    pub key: String,
    /// Authorities whose client certificates log in without a password; none: passwords only.
    pub client_ca: Option<String>,
}

/// A server of our own.
pub struct Postgres {
    port: u16,
    password: String,
    dir: PathBuf,
    guard: Guard,
}

/// Who runs the server: PostgreSQL refuses to run as root.
struct Owner {
    uid: u32,
    gid: u32,
}

impl Postgres {
    /// The server that all tests of a process share; started when first asked for.
    pub fn shared() -> &'static Postgres {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Postgres::start(None))
    }

    /// Starts a server. Blocks until it takes connections.
    pub fn start(tls: Option<&ServerTls>) -> Postgres {
        Postgres::start_on(free_port, tls)
    }

    /// Starts a server on the first port that turns out to be free.
    pub fn start_on(mut next_port: impl FnMut() -> u16, tls: Option<&ServerTls>) -> Postgres {
        let bin = find_programs();
        let owner = is_root().then(unprivileged_user);
        let dir = tempfile::Builder::new()
            .prefix("ferrocast-pg-")
            .tempdir()
            .expect("a folder for a throw-away PostgreSQL")
            .keep();
        give(&dir, owner.as_ref(), 0o700);
        // Of this server alone, so that nobody logs in at another test process's server by mistake.
        let password = format!("secret-{}", uuid::Uuid::now_v7().simple());
        init(&bin, &dir, &password, owner.as_ref());
        configure(&dir, tls, owner.as_ref());
        let mut command = command_as(owner.as_ref(), "sh", &dir);
        command.env("BIN", &bin).env("DIR", &dir);
        let guard = Guard::start(command, GUARD);
        let mut postgres = Postgres {
            port: 0,
            password,
            dir,
            guard,
        };
        for _ in 0..PORTS_TRIED_MAX {
            postgres.port = next_port();
            if postgres.start_server() {
                return postgres;
            }
        }
        panic!("no server on any port; its log:\n{}", postgres.log());
    }

    /// Ends the server at once, as a crash would, and waits until it is gone.
    pub fn stop(&self) {
        assert_eq!(self.guard.order("stop"), "stopped", "{}", self.log());
    }

    /// Kills the server with a signal that it cannot handle.
    pub fn kill(&self) {
        assert_eq!(self.guard.order("kill"), "stopped", "{}", self.log());
    }

    /// Makes the server and some processes of its own stand still, as a machine in trouble would: connections stay and are
    /// even taken, and nothing answers.
    pub fn pause(&self, processes: &[i32]) {
        let order = format!("pause {}", listed(processes));
        assert_eq!(self.guard.order(&order), "paused");
    }

    /// Makes them go on.
    pub fn resume(&self, processes: &[i32]) {
        let order = format!("resume {}", listed(processes));
        assert_eq!(self.guard.order(&order), "resumed");
    }

    /// Makes the server stand still with all of its processes.
    pub fn pause_all(&self) {
        assert_eq!(self.guard.order("hang"), "paused", "{}", self.log());
    }

    /// Makes all of them go on.
    pub fn resume_all(&self) {
        assert_eq!(self.guard.order("unhang"), "resumed", "{}", self.log());
    }

    /// Starts the server again, on the same port and with the same data.
    ///
    /// After a kill its children hold on to the shared memory for a moment.
    pub fn start_again(&self) {
        let give_up_at = Instant::now() + START_WAIT_MAX;
        while !self.start_server() {
            assert!(Instant::now() < give_up_at, "{}", self.log());
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Whether our server came up: its port may be somebody else's by now.
    fn start_server(&self) -> bool {
        self.guard.order(&format!("start {}", self.port)) == "started"
    }

    /// The server's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The superuser's password, which no message may show.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The URL of a database, without TLS unless parameters say otherwise.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://{USER}:{}@127.0.0.1:{}/{database}",
            self.password, self.port
        )
    }

    /// Makes a new database and returns its URL.
    pub async fn fresh_database(&self) -> String {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let client = self.connect("postgres").await;
        client
            .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0"))
            .await
            .expect("a fresh database");
        self.url(&name)
    }

    /// A connection of the test's own, to write SQL by hand; waits while there is no room for one.
    ///
    /// Needs a server of password logins over plain TCP, which every server of ours takes.
    pub async fn connect(&self, database: &str) -> tokio_postgres::Client {
        let give_up_at = Instant::now() + START_WAIT_MAX;
        loop {
            match tokio_postgres::connect(&self.url(database), NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return client;
                }
                Err(error) if Instant::now() > give_up_at => {
                    panic!(
                        "no connection: {error:?}; the server's log:\n{}",
                        self.log()
                    )
                }
                Err(_) => tokio::time::sleep(POLL_INTERVAL).await,
            }
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

fn listed(processes: &[i32]) -> String {
    let processes: Vec<String> = processes.iter().map(i32::to_string).collect();
    processes.join(" ")
}

/// The folder with `postgres` and `initdb`: the one on the PATH, or Debian's newest.
fn find_programs() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has_both = |dir: &PathBuf| dir.join("postgres").exists() && dir.join("initdb").exists();
    let mut debian: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    debian.sort();
    std::env::split_paths(&path)
        .chain(debian.into_iter().rev().map(|(_, dir)| dir))
        .find(has_both)
        .expect(
            "these tests need the programs `postgres` and `initdb`, on the PATH or in /usr/lib/postgresql/*/bin; \
             install them (Debian: apt-get install postgresql; macOS: brew install postgresql)",
        )
}

fn is_root() -> bool {
    let answer = Command::new("id").arg("-u").output().expect("id");
    answer.stdout == b"0\n"
}

fn unprivileged_user() -> Owner {
    let users = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let find = |name: &str| {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let is_it = fields.next() == Some(name);
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            is_it.then_some(Owner { uid, gid })
        })
    };
    find("postgres").or_else(|| find("nobody")).expect(
        "PostgreSQL does not run as root, and there is no user postgres or nobody to run it",
    )
}

fn give(path: &Path, owner: Option<&Owner>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    if let Some(owner) = owner {
        chown(path, Some(owner.uid), Some(owner.gid)).unwrap();
    }
}

fn write_as(path: &Path, text: &str, owner: Option<&Owner>) {
    fs::write(path, text).unwrap();
    give(path, owner, 0o600);
}

fn command_as(owner: Option<&Owner>, program: impl AsRef<std::ffi::OsStr>, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir);
    if let Some(owner) = owner {
        command.uid(owner.uid).gid(owner.gid);
    }
    command
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn init(bin: &Path, dir: &Path, password: &str, owner: Option<&Owner>) {
    let password_file = dir.join("password");
    write_as(&password_file, password, owner);
    let done = command_as(owner, bin.join("initdb"), dir)
        .arg("-D")
        .arg(dir.join("data"))
        .args(["--username", USER, "--auth=scram-sha-256"])
        .args(["--encoding=UTF8", "--locale=C", "--no-sync"])
        .arg("--pwfile")
        .arg(&password_file)
        .output()
        .expect("initdb");
    assert!(
        done.status.success(),
        "initdb failed: {}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}

/// For speed the data may be lost in a crash of the machine, which would end the tests anyway.
fn configure(dir: &Path, tls: Option<&ServerTls>, owner: Option<&Owner>) {
    let data = dir.join("data");
    let mut settings = String::from(
        "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\n\
         fsync = off\nfull_page_writes = off\nautovacuum = off\n\
         shared_buffers = 32MB\nmax_connections = 300\n",
    );
    if let Some(tls) = tls {
        settings.push_str("ssl = on\n");
        write_as(&data.join("server.crt"), &tls.certificate, owner);
        write_as(&data.join("server.key"), &tls.key, owner);
        if let Some(authority) = &tls.client_ca {
            settings.push_str("ssl_ca_file = 'clients.crt'\n");
            write_as(&data.join("clients.crt"), authority, owner);
            write_as(
                &data.join("pg_hba.conf"),
                "hostssl all by_certificate 127.0.0.1/32 cert\nhost all all 127.0.0.1/32 scram-sha-256\n",
                owner,
            );
        }
    }
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(data.join("postgresql.conf"))
        .unwrap();
    file.write_all(settings.as_bytes()).unwrap();
}
