//! The binary as a process of its own.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Stdio},
    thread::JoinHandle,
};

use crate::support::command;

/// The binary, serving; killed by process id if the test ends early.
pub struct Serving {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
    /// Read as it comes: whoever writes into a full pipe waits.
    logs: Option<JoinHandle<String>>,
}

impl Serving {
    pub fn start(url: &str) -> Serving {
        Serving::with(url, &[])
    }

    pub fn with(url: &str, further: &[&str]) -> Serving {
        let mut serving = Serving::unread(url, further);
        serving.read_logs();
        serving
    }

    /// With nobody who reads what it logs, until `read_logs`.
    pub fn unread(url: &str, further: &[&str]) -> Serving {
        let mut arguments = vec![
            "serve",
            "--database-url",
            url,
            "--grpc-addr",
            "127.0.0.1:0",
            "--http-addr",
            "127.0.0.1:0",
            "--set",
            "telemetry.log_format=json",
        ];
        arguments.extend(further);
        let mut child = command(&arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Serving {
            child,
            stdout,
            logs: None,
        }
    }

    /// From now on what it logs is read.
    pub fn read_logs(&mut self) {
        let mut stderr = self.child.stderr.take().unwrap();
        self.logs = Some(std::thread::spawn(move || {
            let mut logs = String::new();
            stderr.read_to_string(&mut logs).unwrap();
            logs
        }));
    }

    /// The gRPC address in the banner, and the banner up to its last line.
    pub fn banner(&mut self) -> (String, String) {
        let mut banner = String::new();
        while !banner.contains("/docs") {
            assert_ne!(self.stdout.read_line(&mut banner).unwrap(), 0, "{banner}");
        }
        let line = banner.lines().find(|line| line.contains("gRPC")).unwrap();
        let address = line.split_whitespace().nth(1).unwrap().to_owned();
        (address, banner)
    }

    pub fn signal(&self, name: &str) {
        let done = std::process::Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status();
        assert!(done.unwrap().success());
    }

    /// The memory that is its own and in use.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib: u64 = line
            .unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        kib * 1024
    }

    /// The exit code and the log, once it has ended.
    pub fn end(&mut self) -> (Option<i32>, String) {
        let logs = self.logs.take().unwrap().join().unwrap();
        (self.child.wait().unwrap().code(), logs)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
