//! Fetches a server's descriptors by its reflection service, v1 or the older v1alpha, within bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::uri::PathAndQuery;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::DescriptorPool;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::backend::Backend;
use crate::fault::error_chain;

/// The two versions; their messages are the same on the wire.
const V1: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const V1ALPHA: &str = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";

/// Bounds of [`fetch_descriptors`].
#[derive(Clone, Debug)]
pub struct ReflectionLimits {
    /// How many services a server may have.
    pub services_max: usize,
    /// How many .proto files they may come from.
    pub files_max: usize,
    /// How many bytes those may have together.
    pub bytes_max: usize,
    /// How long the whole conversation may take.
    pub timeout: Duration,
}

impl Default for ReflectionLimits {
    fn default() -> Self {
        Self {
            services_max: 1000,
            files_max: 2000,
            bytes_max: 16 << 20,
            timeout: Duration::from_secs(10),
        }
    }
}

/// Tells why a server's descriptors could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum ReflectionError {
    /// The server has no reflection service.
    #[error("the server has no reflection service (neither v1 nor v1alpha)")]
    Unsupported,
    /// The call failed.
    #[error("the reflection call failed: {code:?}: {message}")]
    Call {
        /// The gRPC code.
        code: Code,
        /// What the server or the transport says.
        message: String,
    },
    /// The server's answer is not one to the question.
    #[error("the server's reflection answers wrongly: {0}")]
    Answer(String),
    /// There is more than the bounds allow.
    #[error("the server describes more than {max} {what}")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// The conversation took too long.
    #[error("the reflection took longer than {0:?}")]
    Timeout(Duration),
    /// The files do not fit together.
    #[error("the server's descriptors do not fit together: {0}")]
    Descriptors(String),
}

impl ReflectionError {
    /// Whether it may work a moment later, as where the server is still starting.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Call { code, .. } => matches!(
                code,
                Code::Unavailable | Code::Unknown | Code::DeadlineExceeded
            ),
            Self::Timeout(_) => true,
            Self::Unsupported | Self::Answer(_) | Self::TooMuch { .. } | Self::Descriptors(_) => {
                false
            }
        }
    }
}

/// Fetches the descriptors of every service of a server, its own reflection service aside.
///
/// # Errors
/// The server has no reflection, is away, or describes more than the bounds allow.
pub async fn fetch_descriptors(
    channel: Channel,
    limits: &ReflectionLimits,
) -> Result<DescriptorPool, ReflectionError> {
    let backend = Backend::remote(channel);
    let fetch = async {
        match fetch(&backend, V1, limits).await {
            Err(ReflectionError::Call {
                code: Code::Unimplemented,
                ..
            }) => fetch(&backend, V1ALPHA, limits).await,
            result => result,
        }
    };
    match timeout(limits.timeout, fetch).await {
        Ok(Err(ReflectionError::Call {
            code: Code::Unimplemented,
            ..
        })) => Err(ReflectionError::Unsupported),
        Ok(result) => result,
        Err(_) => Err(ReflectionError::Timeout(limits.timeout)),
    }
}

async fn fetch(
    backend: &Backend,
    path: &'static str,
    limits: &ReflectionLimits,
) -> Result<DescriptorPool, ReflectionError> {
    let mut conversation = Conversation::open(backend, path, limits.bytes_max).await?;
    let answer = conversation
        .ask(MessageRequest::ListServices(String::new()))
        .await?;
    let MessageResponse::ListServicesResponse(list) = answer else {
        return Err(unexpected(&answer));
    };
    let services = list.service;
    if services.len() > limits.services_max {
        return Err(ReflectionError::TooMuch {
            what: "services",
            max: limits.services_max,
        });
    }
    let mut files = Files::new(limits);
    for service in services
        .iter()
        .filter(|service| !service.name.starts_with("grpc.reflection."))
    {
        let answer = conversation
            .ask(MessageRequest::FileContainingSymbol(service.name.clone()))
            .await?;
        files.take(answer)?;
    }
    while let Some(name) = files.missing.pop_first() {
        let answer = conversation
            .ask(MessageRequest::FileByFilename(name.clone()))
            .await?;
        files.take(answer)?;
        if !files.known.contains_key(&name) {
            return Err(ReflectionError::Answer(format!(
                "it was asked for {name} and sent another file"
            )));
        }
    }
    files.into_pool()
}

/// The files so far, as the server encoded them: decoding and encoding them again would lose the annotations.
struct Files<'a> {
    limits: &'a ReflectionLimits,
    known: BTreeMap<String, Bytes>,
    missing: BTreeSet<String>,
    bytes: usize,
}

/// The two fields of `google.protobuf.FileDescriptorProto` that the fetching needs.
#[derive(Clone, PartialEq, prost::Message)]
struct FileHead {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, repeated, tag = "3")]
    dependency: Vec<String>,
}

impl<'a> Files<'a> {
    fn new(limits: &'a ReflectionLimits) -> Self {
        Self {
            limits,
            known: BTreeMap::new(),
            missing: BTreeSet::new(),
            bytes: 0,
        }
    }

    fn take(&mut self, answer: MessageResponse) -> Result<(), ReflectionError> {
        let MessageResponse::FileDescriptorResponse(files) = answer else {
            return Err(unexpected(&answer));
        };
        for file in files.file_descriptor_proto {
            let head = FileHead::decode(file.as_slice())
                .map_err(|error| ReflectionError::Answer(error.to_string()))?;
            let name = head.name.unwrap_or_default();
            self.missing.remove(&name);
            if self.known.contains_key(&name) {
                continue;
            }
            self.bytes += file.len();
            if self.bytes > self.limits.bytes_max {
                return Err(ReflectionError::TooMuch {
                    what: "bytes",
                    max: self.limits.bytes_max,
                });
            }
            self.known.insert(name, file.into());
            let needed = head
                .dependency
                .into_iter()
                .filter(|name| !self.known.contains_key(name));
            self.missing.extend(needed);
            if self.known.len() + self.missing.len() > self.limits.files_max {
                return Err(ReflectionError::TooMuch {
                    what: "files",
                    max: self.limits.files_max,
                });
            }
        }
        Ok(())
    }

    /// Puts the files into one FileDescriptorSet, whose field 1 they are, without decoding them.
    fn into_pool(self) -> Result<DescriptorPool, ReflectionError> {
        let mut set = BytesMut::with_capacity(self.bytes);
        for file in self.known.values() {
            encode_key(1, WireType::LengthDelimited, &mut set);
            encode_varint(file.len() as u64, &mut set);
            set.put_slice(file);
        }
        DescriptorPool::decode(set.freeze())
            .map_err(|error| ReflectionError::Descriptors(error.to_string()))
    }
}

/// A reflection stream: one question, one answer.
struct Conversation {
    questions: mpsc::Sender<Bytes>,
    answers: Streaming<Bytes>,
}

impl Conversation {
    async fn open(
        backend: &Backend,
        path: &'static str,
        bytes_max: usize,
    ) -> Result<Self, ReflectionError> {
        let (questions, receiver) = mpsc::channel(1);
        // The first question goes before the answer's head comes: some servers send no head until they have read one.
        let first = question(MessageRequest::ListServices(String::new()));
        let sent = questions.send(first).await;
        sent.map_err(|_| ReflectionError::Answer("the stream closed".to_owned()))?;
        let path = PathAndQuery::from_static(path);
        let answers = backend
            .both_streams(ReceiverStream::new(receiver), path, bytes_max)
            .await;
        let mut conversation = Self {
            questions,
            answers: answers.map_err(call_error)?,
        };
        conversation.next().await?;
        Ok(conversation)
    }

    async fn ask(&mut self, request: MessageRequest) -> Result<MessageResponse, ReflectionError> {
        let sent = self.questions.send(question(request)).await;
        sent.map_err(|_| ReflectionError::Answer("the stream closed".to_owned()))?;
        self.next().await
    }

    async fn next(&mut self) -> Result<MessageResponse, ReflectionError> {
        let bytes = self.answers.message().await.map_err(call_error)?;
        let bytes =
            bytes.ok_or_else(|| ReflectionError::Answer("the stream ended early".to_owned()))?;
        let answer = ServerReflectionResponse::decode(bytes)
            .map_err(|error| ReflectionError::Answer(error.to_string()))?;
        answer
            .message_response
            .ok_or_else(|| ReflectionError::Answer("an empty answer".to_owned()))
    }
}

fn question(request: MessageRequest) -> Bytes {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(request),
    };
    request.encode_to_vec().into()
}

fn unexpected(answer: &MessageResponse) -> ReflectionError {
    match answer {
        MessageResponse::ErrorResponse(error) => {
            ReflectionError::Answer(error.error_message.clone())
        }
        MessageResponse::FileDescriptorResponse(_)
        | MessageResponse::AllExtensionNumbersResponse(_)
        | MessageResponse::ListServicesResponse(_) => {
            ReflectionError::Answer("an answer to another question".to_owned())
        }
    }
}

fn call_error(status: Status) -> ReflectionError {
    // The transport's own text ("transport error") says little; its sources say which address refused what.
    let message = match std::error::Error::source(&status) {
        Some(source) => error_chain(source),
        None => status.message().to_owned(),
    };
    ReflectionError::Call {
        code: status.code(),
        message,
    }
}
