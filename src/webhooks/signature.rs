//! The proof that a delivery is of whom we share a secret with, as MLflow signs it: HMAC-SHA256 of id, time and body.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::config::Secret;

/// How far the sender's clock may be from ours: what is older may be a repetition by somebody else.
const AGE_SECONDS_MAX: u64 = 300;

/// The version of the form of signatures.
const SIGNATURE_VERSION: &str = "v1,";

/// One delivery, as it came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivery<'a> {
    /// `X-MLflow-Delivery-Id`.
    pub id: &'a str,
    /// `X-MLflow-Timestamp`, seconds since 1970.
    pub timestamp: &'a str,
    /// `X-MLflow-Signature`.
    pub signature: &'a str,
    pub body: &'a [u8],
}

impl Delivery<'_> {
    /// Whether it was signed with the secret, not long ago.
    pub(super) fn is_signed_with(&self, secret: &Secret, now_seconds: u64) -> bool {
        let Ok(at) = self.timestamp.parse::<u64>() else {
            return false;
        };
        let encoded = self.signature.strip_prefix(SIGNATURE_VERSION);
        let Some(Ok(signature)) = encoded.map(|encoded| BASE64_STANDARD.decode(encoded)) else {
            return false;
        };
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.reveal().as_bytes()) else {
            return false;
        };
        mac.update(format!("{}.{}.", self.id, self.timestamp).as_bytes());
        mac.update(self.body);
        // In a time that does not hang on where the two differ.
        mac.verify_slice(&signature).is_ok() && at.abs_diff(now_seconds) <= AGE_SECONDS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_790_000_000;

    /// Made by Python's hmac, as MLflow does:
    /// `b64encode(hmac.new(b"secret", b'id-1.1790000000.{"entity": "x"}', sha256).digest())`.
    const SIGNATURE: &str = "v1,edLLR3JIKq+UeQwCJkmlUp5Hw63DO0U/BE31U/6kQ0U=";

    fn delivery() -> Delivery<'static> {
        Delivery {
            id: "id-1",
            timestamp: "1790000000",
            signature: SIGNATURE,
            body: br#"{"entity": "x"}"#,
        }
    }

    #[test]
    fn what_was_signed_with_the_secret_is_taken() {
        let secret = Secret::from("secret");
        for age in [0, 300] {
            assert!(delivery().is_signed_with(&secret, NOW + age));
            assert!(delivery().is_signed_with(&secret, NOW - age));
        }
    }

    #[test]
    fn nothing_else_is() {
        let secret = Secret::from("secret");
        let changed = |change: fn(&mut Delivery<'static>)| {
            let mut delivery = delivery();
            change(&mut delivery);
            delivery
        };
        for forged in [
            changed(|delivery| delivery.id = "id-2"),
            changed(|delivery| delivery.timestamp = "1790000001"),
            changed(|delivery| delivery.timestamp = "soon"),
            changed(|delivery| delivery.body = b"{}"),
            changed(|delivery| delivery.signature = ""),
            changed(|delivery| delivery.signature = "v1,"),
            changed(|delivery| delivery.signature = "v1,AAAA"),
            changed(|delivery| delivery.signature = SIGNATURE.trim_start_matches("v1,")),
        ] {
            assert!(!forged.is_signed_with(&secret, NOW), "{forged:?}");
        }
        assert!(!delivery().is_signed_with(&Secret::from("other"), NOW));
        // A repetition, later or of a sender whose clock is ahead.
        assert!(!delivery().is_signed_with(&secret, NOW + 301));
        assert!(!delivery().is_signed_with(&secret, NOW - 301));
    }
}
