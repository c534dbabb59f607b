//! `ferrocast-historical` as a child process: finds it, gives it a plan, listens to it.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
};

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    sync::mpsc,
};

use super::plan::JoinPlan;
use crate::error::{Error, ErrorKind, Result};

/// The program's name.
const PROGRAM: &str = "ferrocast-historical";

/// Bytes of an answer that are handed on at once.
const CHUNK_BYTES: usize = 1 << 18;

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

/// Runs a join to its end. What it writes to its standard output goes into the sink, where there is one.
///
/// # Errors
/// The child's own error; `Internal` where it breaks off without one.
pub(super) async fn run(
    program: &Path,
    plan: &JoinPlan,
    sink: Option<mpsc::Sender<Bytes>>,
    progress: impl Fn(&JoinProgress),
) -> Result<()> {
    let text = serde_json::to_vec(plan)
        .map_err(|fault| Error::internal("a plan that JSON cannot hold").with_source(fault))?;
    let broke_off = |what: &str, fault: std::io::Error| {
        Error::internal(format!("{PROGRAM}: {what}: {fault}")).with_source(fault)
    };
    let mut child = Command::new(program)
        .arg("join")
        .stdin(Stdio::piped())
        .stdout(if sink.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|fault| {
            // Where it is, is nothing for a caller from the network.
            let message = format!("{PROGRAM} cannot be run (historical.program): {fault}");
            let cause = format!("{}: {fault}", program.display());
            Error::failed_precondition(message).with_source(cause)
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A child that stops listening says why on its standard error.
        let _ = stdin.write_all(&text).await;
    }
    let stdout = child.stdout.take();
    let forwarded = async {
        match (stdout, sink) {
            (Some(stdout), Some(sink)) => forward(stdout, sink).await,
            _ => Ok(()),
        }
    };
    let (forwarded, said) = tokio::join!(forwarded, listen(&mut child, progress));
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
