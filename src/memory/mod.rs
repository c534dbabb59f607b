//! What was freed and stays with an allocator goes back to the system after what needed much of it for a short time: the start, and
//! the loading of models. ONNX Runtime's stays with the C library, for each thread that loaded a model once: a hundred megabytes
//! after as many swaps of a model of 200 trees. The program's own stays with mimalloc for as long as nothing else is allocated.

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod program;

/// Gives back what is free when it is dropped: to be the last of the fields that have much memory.
pub(crate) struct GivesBack;

impl Drop for GivesBack {
    fn drop(&mut self) {
        give_back();
    }
}

/// Gives back to the system what is free: of the C library's allocator; of the program's own what the calling thread freed, and
/// what all threads had laid aside whole. To be called by the thread that needed the memory.
pub(crate) fn give_back() {
    #[expect(
        unsafe_code,
        reason = "functions of the allocators, which have no safe form"
    )]
    // SAFETY: they take no pointers, and may be called at any time by any thread.
    unsafe {
        // Other C libraries give back by themselves, or not at all.
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        libc::malloc_trim(0);
        libmimalloc_sys::mi_collect(true);
    }
}

/// Gives back, at the end of the start, what is free and what the start alone read of the program and its libraries: most of
/// their pages, which the system has and maps again where they are asked for.
pub(crate) fn give_back_start() {
    give_back();
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    program::unmap();
}
