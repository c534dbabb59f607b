//! What ONNX Runtime frees stays with the C library, for each thread that loaded a model once: a hundred megabytes after as many
//! swaps of a model of 200 trees.

/// Gives it back to the system when it is dropped; to be the last of the fields that have memory of ONNX Runtime's.
pub(super) struct GivesBack;

impl Drop for GivesBack {
    fn drop(&mut self) {
        give_back();
    }
}

/// Gives back to the system what is free.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn give_back() {
    #[expect(
        unsafe_code,
        reason = "a function of the C library that has no safe form"
    )]
    // SAFETY: it takes no pointer, and may be called at any time by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other C libraries give back by themselves, or not at all.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn give_back() {}
