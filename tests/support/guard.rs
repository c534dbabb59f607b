//! A small shell that starts and stops a server for the tests and cleans up after it however the test process ends: it sees
//! its standard input close.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used
)]

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Mutex,
};

/// A shell that waits for orders, a line each, and answers each with a line.
pub struct Guard {
    shell: Mutex<Shell>,
}

struct Shell {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Guard {
    /// Runs a script in a shell; `command` is `sh` with folder, user and environment as the script needs them.
    pub fn start(mut command: Command, script: &str) -> Guard {
        let mut child = command
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // So that a Ctrl-C at the terminal reaches the tests and not the guard.
            .process_group(0)
            .spawn()
            .expect("sh, to guard a throw-away server");
        let shell = Shell {
            orders: child.stdin.take(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
        };
        Guard {
            shell: Mutex::new(shell),
        }
    }

    /// Tells the guard what to do, and returns what it answers when that is done.
    pub fn order(&self, order: &str) -> String {
        let mut shell = self.shell.lock().unwrap();
        let orders = shell.orders.as_mut().unwrap();
        writeln!(orders, "{order}").expect("the guard listens");
        let mut line = String::new();
        let answered = shell.answers.read_line(&mut line);
        answered.expect("the guard answers");
        line.trim().to_owned()
    }
}

impl Drop for Guard {
    /// Waits until the guard has cleaned up; a shared server is never dropped, and cleaned up all the same.
    fn drop(&mut self) {
        if let Ok(shell) = self.shell.get_mut() {
            shell.orders = None;
            let _ = shell.child.wait();
        }
    }
}
