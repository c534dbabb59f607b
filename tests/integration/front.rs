//! What stands between a server under test and a service: it passes everything on, until it is told to fail in one of the
//! ways that networks and services do.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mood {
    /// Passes everything on.
    Open,
    /// Connections end as soon as they are made.
    Away,
    /// Connections are taken, and nothing is ever answered.
    Silent,
    /// Every request is answered with a page that is none of the service's.
    Nonsense,
    /// Answers whose length is more than this break off after so many bytes.
    CutsAfter(usize),
}

pub struct Front {
    port: u16,
    mood: watch::Sender<Mood>,
    requests: Arc<Mutex<String>>,
}

impl Front {
    /// Stands before a port of this machine.
    pub async fn before(theirs: u16) -> Front {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mood, _) = watch::channel(Mood::Open);
        let requests = Arc::new(Mutex::new(String::new()));
        let (told, seen) = (mood.clone(), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, theirs, told.subscribe(), Arc::clone(&seen)));
            }
        });
        Front {
            port,
            mood,
            requests,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Behaves otherwise from now on; connections of before end.
    pub fn behaves(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// All that was asked, as text.
    pub fn requests(&self) -> String {
        self.requests.lock().unwrap().clone()
    }
}

async fn pass(
    mut client: TcpStream,
    theirs: u16,
    mut told: watch::Receiver<Mood>,
    seen: Arc<Mutex<String>>,
) {
    let mood = *told.borrow_and_update();
    let passed = async {
        match mood {
            Mood::Away => {}
            Mood::Silent => std::future::pending().await,
            Mood::Nonsense => answer_nonsense(&mut client).await,
            Mood::Open | Mood::CutsAfter(_) => pass_on(client, theirs, mood, seen).await,
        }
    };
    tokio::select! {
        () = passed => {}
        _ = told.changed() => {}
    }
}

async fn answer_nonsense(client: &mut TcpStream) {
    let mut request = vec![0; 1 << 16];
    while let Ok(1..) = client.read(&mut request).await {
        let page = "<html>Welcome to nginx!</html>";
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{page}",
            page.len()
        );
        if client.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn pass_on(client: TcpStream, theirs: u16, mood: Mood, seen: Arc<Mutex<String>>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", theirs)).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asking = async {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from_client.read(&mut bytes).await {
            let text = String::from_utf8_lossy(&bytes[..length]);
            seen.lock().unwrap().push_str(&text);
            if to_server.write_all(&bytes[..length]).await.is_err() {
                return;
            }
        }
    };
    let answering = async {
        let mut bytes = vec![0; 1 << 16];
        let mut passed = 0;
        while let Ok(length @ 1..) = from_server.read(&mut bytes).await {
            passed += length;
            if to_client.write_all(&bytes[..length]).await.is_err() {
                return;
            }
            if matches!(mood, Mood::CutsAfter(bound) if passed > bound) {
                return;
            }
        }
    };
    tokio::select! {
        () = asking => {}
        () = answering => {}
    }
}
