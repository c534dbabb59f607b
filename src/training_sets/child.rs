//! `ferrocast-historical` as a child process: finds it, gives it a plan, listens to it.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    sync::mpsc,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{plan::JoinPlan, stopped};
use crate::error::{Error, ErrorKind, Result};

/// The program's name.
const PROGRAM: &str = "ferrocast-historical";

/// Bytes of an answer that are handed on at once.
const CHUNK_BYTES: usize = 1 << 18;

/// How long the child may take to clean up behind itself when it is told to stop.
const END_MAX: Duration = Duration::from_secs(2);

/// A line of the child's that is longer is cut.
const LINE_BYTES_MAX: u64 = 1 << 16;

/// How far a join is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct JoinProgress {
    /// What is being done.
    pub phase: String,
    /// For which view, where it is one view's.
    #[serde(default)]
    pub view: Option<String>,
    /// How much of it is done.
    pub done: u64,
    /// How much there is to do; 0 where that is not known.
    pub of: u64,
}

/// A line of the child's standard error.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Progress(JoinProgress),
    Error(ChildError),
}

#[derive(Deserialize)]
struct ChildError {
    kind: String,
    message: String,
}

/// Where the program is: as configured, beside this one, or on the PATH.
///
/// # Errors
/// `FailedPrecondition` where it is nowhere.
pub(super) fn find(configured: Option<&Path>) -> Result<PathBuf> {
    let beside = env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.join(PROGRAM)));
    let on_path = env::var_os("PATH").unwrap_or_default();
    let found = match configured {
        Some(path) => Some(path.to_owned()).filter(|path| path.is_file()),
        None => beside
            .into_iter()
            .chain(env::split_paths(&on_path).map(|folder| folder.join(PROGRAM)))
            .find(|path| path.is_file()),
    };
    found.ok_or_else(|| {
        Error::failed_precondition(format!(
            "{PROGRAM} is not there, which makes training sets; `make historical` builds it; it is \
             searched beside it, on the PATH, and where historical.program says"
        ))
    })
}

/// Runs a join to its end. What it writes to its standard output goes into the sink, where there is one. A stop lets it
/// clean up behind itself.
///
/// # Errors
/// The child's own error; `FailedPrecondition` after a stop; `Internal` where it breaks off without one.
pub(super) async fn run(
    program: &Path,
    plan: &JoinPlan,
    sink: Option<mpsc::Sender<Bytes>>,
    progress: impl Fn(&JoinProgress),
    stop: &CancellationToken,
) -> Result<()> {
    let text = serde_json::to_vec(plan)
        .map_err(|fault| Error::internal("a plan that JSON cannot hold").with_source(fault))?;
    let mut child = start(program, sink.is_some())?;
    let ended = tokio::select! {
        ended = attend(&mut child, &text, sink, progress) => Some(ended),
        () = stop.cancelled() => None,
    };
    match ended {
        Some(ended) => ended,
        None => {
            end(child).await;
            Err(stopped())
        }
    }
}

fn start(program: &Path, has_answer: bool) -> Result<Child> {
    let child = Command::new(program)
        .arg("join")
        .stdin(Stdio::piped())
        .stdout(if has_answer {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    child.map_err(|fault| {
        // Where it is, is nothing for a caller from the network.
        let message = format!("{PROGRAM} cannot be run (historical.program): {fault}");
        let cause = format!("{}: {fault}", program.display());
        Error::failed_precondition(message).with_source(cause)
    })
}

/// Gives it the plan, and listens until it ends.
async fn attend(
    child: &mut Child,
    plan: &[u8],
    sink: Option<mpsc::Sender<Bytes>>,
    progress: impl Fn(&JoinProgress),
) -> Result<()> {
    let broke_off = |what: &str, fault: std::io::Error| {
        Error::internal(format!("{PROGRAM}: {what}: {fault}")).with_source(fault)
    };
    if let Some(mut stdin) = child.stdin.take() {
        // A child that stops listening says why on its standard error.
        let _ = stdin.write_all(plan).await;
    }
    let stdout = child.stdout.take();
    let forwarded = async {
        match (stdout, sink) {
            (Some(stdout), Some(sink)) => forward(stdout, sink).await,
            _ => Ok(()),
        }
    };
    let (forwarded, said) = tokio::join!(forwarded, listen(child, progress));
    forwarded.map_err(|fault| broke_off("its answer cannot be read", fault))?;
    let status = child
        .wait()
        .await
        .map_err(|fault| broke_off("its end cannot be awaited", fault))?;
    if status.success() {
        return Ok(());
    }
    Err(said.unwrap_or_else(|| {
        Error::internal(format!("{PROGRAM} ended with {status} and said nothing"))
    }))
}

/// Tells it to end, which lets it remove what it has half done, and kills it where it does not.
async fn end(mut child: Child) {
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(id) = id.and_then(Pid::from_raw) {
        // It may have ended by itself meanwhile.
        let _ = kill_process(id, Signal::TERM);
    }
    if timeout(END_MAX, child.wait()).await.is_err() {
        tracing::warn!("{PROGRAM} does not end, and is killed");
        let _ = child.kill().await;
    }
}

/// Passes an answer on; ends early where nobody wants it any more, which breaks the child's pipe.
async fn forward(
    mut stdout: impl AsyncRead + Unpin,
    sink: mpsc::Sender<Bytes>,
) -> Result<(), std::io::Error> {
    let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
    loop {
        let read = stdout.read_buf(&mut chunk).await?;
        let is_full = chunk.len() >= CHUNK_BYTES;
        if (is_full || read == 0)
            && !chunk.is_empty()
            && sink.send(chunk.split().freeze()).await.is_err()
        {
            return Ok(());
        }
        if read == 0 {
            return Ok(());
        }
        chunk.reserve(CHUNK_BYTES.saturating_sub(chunk.len()).max(1));
    }
}

/// Reads the child's lines; gives the error that it told, if any.
async fn listen(child: &mut Child, progress: impl Fn(&JoinProgress)) -> Option<Error> {
    let mut lines = BufReader::new(child.stderr.take()?);
    let mut told = None;
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut lines)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)
            .await;
        if !matches!(read, Ok(count) if count > 0) {
            return told;
        }
        match serde_json::from_slice(&line) {
            Ok(Line::Progress(step)) => progress(&step),
            Ok(Line::Error(fault)) => told = Some(error(fault)),
            Err(_) => {
                let text = String::from_utf8_lossy(&line);
                tracing::warn!(line = text.trim_end(), "the join said something");
            }
        }
    }
}

fn error(fault: ChildError) -> Error {
    let kind = match fault.kind.as_str() {
        "invalid_argument" => ErrorKind::InvalidArgument,
        "not_found" => ErrorKind::NotFound,
        "failed_precondition" => ErrorKind::FailedPrecondition,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, fault.message)
}
