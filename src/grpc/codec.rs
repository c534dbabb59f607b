//! How messages are encoded: as prost does, in buffers of the size that most messages have.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::ProstCodec;

/// What a call's buffers hold before they grow, bytes: a prediction takes some hundred. Of tonic's own 8 KiB, two a call, most
/// was never touched but had to be found in memory anew.
const BUFFER_BYTES: usize = 1 << 10;

/// Messages of a stream are sent together up to so many bytes, as tonic does by itself.
const YIELD_BYTES: usize = 32 << 10;

/// The codec of every method.
#[derive(Debug)]
pub struct SmallBuffers<T, U> {
    types: PhantomData<(T, U)>,
}

impl<T, U> Default for SmallBuffers<T, U> {
    fn default() -> Self {
        SmallBuffers { types: PhantomData }
    }
}

impl<T, U> Codec for SmallBuffers<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }
}
