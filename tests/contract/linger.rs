//! What stands between a store and PostgreSQL, and keeps from it that a client has gone: as a network does that no longer
//! reaches it.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

pub struct Linger {
    pub port: u16,
    /// What the server has said, a connection each.
    said: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Linger {
    /// Stands before a port of this machine.
    pub async fn before(theirs: u16) -> Linger {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let said = Arc::default();
        let heard = Arc::clone(&said);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, theirs, Arc::clone(&heard)));
            }
        });
        Linger { port, said }
    }

    /// How often the server has said something, on any connection.
    pub fn times_said(&self, what: &[u8]) -> usize {
        let said = self.said.lock().unwrap();
        let times = |said: &Vec<u8>| said.windows(what.len()).filter(|at| *at == what).count();
        said.iter().map(times).sum()
    }
}

async fn pass(client: TcpStream, theirs: u16, said: Arc<Mutex<Vec<Vec<u8>>>>) {
    let server = TcpStream::connect(("127.0.0.1", theirs)).await.unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let connection = {
        let mut said = said.lock().unwrap();
        said.push(Vec::new());
        said.len() - 1
    };
    let asking = async move {
        // Its end is not passed on: this half stays open beside the other.
        let _ = io::copy(&mut from_client, &mut to_server).await;
        to_server
    };
    let answering = async {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from_server.read(&mut bytes).await {
            said.lock().unwrap()[connection].extend(&bytes[..length]);
            // Nobody may be there to hear it.
            let _ = to_client.write_all(&bytes[..length]).await;
        }
        let _ = to_client.shutdown().await;
    };
    let _open = tokio::join!(asking, answering);
}
