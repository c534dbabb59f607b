//! A stand-in for a Redis that passes everything on, until it is told to hold a command back, or to break off.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

use crate::{cancel::WAIT_MAX, redis_server::Redis};

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Open,
    /// What has this word in it waits.
    Holds(&'static str),
    /// Something waits.
    Held,
    /// Every connection ends, and new ones do at once.
    Cut,
}

pub struct Gate {
    url: String,
    state: watch::Sender<State>,
}

impl Gate {
    /// Stands before a server.
    pub async fn before(server: &Redis) -> Gate {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let theirs = server.port();
        let (state, _) = watch::channel(State::Open);
        let told = state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", theirs)).await.unwrap();
                tokio::spawn(pass(client, server, told.clone()));
            }
        });
        Gate {
            url: server
                .url()
                .replace(&format!(":{theirs}"), &format!(":{own}")),
            state,
        }
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Holds back what has a word in it, and all that comes after it.
    pub fn hold(&self, word: &'static str) {
        self.state.send_replace(State::Holds(word));
    }

    /// Waits until something is held back.
    pub async fn is_reached(&self) {
        let mut state = self.state.subscribe();
        let reached = state.wait_for(|state| *state == State::Held);
        tokio::time::timeout(WAIT_MAX, reached)
            .await
            .expect("nobody came")
            .unwrap();
    }

    pub fn open(&self) {
        self.state.send_replace(State::Open);
    }

    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }
}

async fn pass(client: TcpStream, server: TcpStream, state: watch::Sender<State>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut cut = state.subscribe();
    tokio::select! {
        () = copy(from_client, to_server, Some(state)) => {}
        () = copy(from_server, to_client, None) => {}
        _ = cut.wait_for(|state| *state == State::Cut) => {}
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: Option<watch::Sender<State>>,
) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        if let Some(state) = &state {
            let text = String::from_utf8_lossy(&bytes[..length]);
            state.send_if_modified(|state| match state {
                State::Holds(word) if text.contains(*word) => {
                    *state = State::Held;
                    true
                }
                _ => false,
            });
            let mut state = state.subscribe();
            let passes = state.wait_for(|state| *state != State::Held);
            passes.await.unwrap();
        }
        if to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}

/// Waits for what comes by itself.
pub async fn eventually(mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(WAIT_MAX, waiting)
        .await
        .expect("it does not come");
}
