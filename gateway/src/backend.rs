//! The gRPC server behind the gateway: in the same process or over a connection, with the same three kinds of call.
//!
//! Messages pass as bytes; what they mean is for `transcode`.

use bytes::{Buf as _, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use http::{Request, Response};
use hyper::body::Body as HttpBody;
use tokio_stream::Stream;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceExt as _};

/// The gRPC server that a gateway calls.
#[derive(Clone, Debug)]
pub struct Backend {
    service: BoxCloneSyncService<Request<Body>, Response<Body>, Status>,
}

impl Backend {
    /// A server in this process, as `tonic::service::Routes` or a whole tower stack around it: called without a socket.
    pub fn in_process<S, B>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let service = service
            .map_response(|response: Response<B>| response.map(Body::new))
            .map_err(|error: S::Error| Status::from_error(error.into()));
        Self {
            service: BoxCloneSyncService::new(service),
        }
    }

    /// A server at the other end of a connection.
    pub fn remote(channel: Channel) -> Self {
        Self::in_process(channel)
    }

    /// Calls a unary rpc.
    pub(crate) async fn unary(
        &self,
        request: tonic::Request<Bytes>,
        path: PathAndQuery,
        bytes_max: usize,
    ) -> Result<Bytes, Status> {
        let answer = self
            .client(bytes_max)
            .await?
            .unary(request, path, RawCodec)
            .await?;
        Ok(answer.into_inner())
    }

    /// Calls an rpc that answers with a stream.
    pub(crate) async fn server_stream(
        &self,
        request: tonic::Request<Bytes>,
        path: PathAndQuery,
        bytes_max: usize,
    ) -> Result<Streaming<Bytes>, Status> {
        let mut client = self.client(bytes_max).await?;
        let answer = client.server_streaming(request, path, RawCodec).await?;
        Ok(answer.into_inner())
    }

    /// Calls an rpc with a stream both ways.
    pub(crate) async fn both_streams(
        &self,
        requests: impl Stream<Item = Bytes> + Send + 'static,
        path: PathAndQuery,
        bytes_max: usize,
    ) -> Result<Streaming<Bytes>, Status> {
        let mut client = self.client(bytes_max).await?;
        let answer = client
            .streaming(tonic::Request::new(requests), path, RawCodec)
            .await?;
        Ok(answer.into_inner())
    }

    async fn client(
        &self,
        bytes_max: usize,
    ) -> Result<Grpc<BoxCloneSyncService<Request<Body>, Response<Body>, Status>>, Status> {
        let mut client = Grpc::new(self.service.clone()).max_decoding_message_size(bytes_max);
        client.ready().await?;
        Ok(client)
    }
}

/// A codec that leaves messages as they are.
#[derive(Clone, Copy, Debug)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self::Encoder {
        *self
    }

    fn decoder(&mut self) -> Self::Decoder {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(src.copy_to_bytes(src.remaining())))
    }
}
