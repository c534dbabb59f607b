//! The pages of the program and of its libraries that nobody writes to.

use std::{ffi::c_void, io, os::raw::c_int, ptr, slice};

/// In a library's list of what the loader has to know (ELF's dynamic section): that it writes to the code, and the flag that
/// says so, too.
const CODE_IS_WRITTEN: isize = 22;
const FLAGS: isize = 30;
const FLAG_CODE_IS_WRITTEN: usize = 4;

/// An entry of that list; a tag of zero ends it.
#[repr(C)]
struct Dynamic {
    tag: isize,
    value: usize,
}

/// Takes them out of the process's memory. A page is there again, from the system's cache of the file, once it is touched.
#[expect(
    unsafe_code,
    reason = "the C library's list of what is loaded has no safe form"
)]
pub(super) fn unmap() {
    // SAFETY: what is called is what the C library expects, and is called before this returns.
    unsafe { libc::dl_iterate_phdr(Some(unmap_one), ptr::null_mut()) };
}

/// The same of the program, or of one library.
#[expect(
    unsafe_code,
    reason = "called by the C library, with a pointer to what is loaded"
)]
unsafe extern "C" fn unmap_one(
    loaded: *mut libc::dl_phdr_info,
    _size: usize,
    _data: *mut c_void,
) -> c_int {
    // SAFETY: both are the C library's, and valid during the call.
    let (base, segments) = unsafe {
        let loaded = &*loaded;
        let count = usize::from(loaded.dlpi_phnum);
        (
            loaded.dlpi_addr as usize,
            slice::from_raw_parts(loaded.dlpi_phdr, count),
        )
    };
    let of_type = |kind| segments.iter().filter(move |s| s.p_type == kind);
    // What lies below the address that it was linked for has a base that wraps.
    let place = |segment: &libc::Elf64_Phdr| {
        (
            base.wrapping_add(segment.p_vaddr as usize),
            segment.p_memsz as usize,
        )
    };
    for (begin, length) in of_type(libc::PT_DYNAMIC).map(place) {
        let count = length / size_of::<Dynamic>();
        // SAFETY: the list lies there for as long as what it is of is loaded.
        let list = unsafe { slice::from_raw_parts(begin as *const Dynamic, count) };
        if list
            .iter()
            .take_while(|entry| entry.tag != 0)
            .any(writes_to_code)
        {
            return 0;
        }
    }
    let unwritten = of_type(libc::PT_LOAD).filter(|s| s.p_flags & libc::PF_W == 0);
    for (begin, length) in unwritten.map(place).filter_map(whole_pages) {
        // SAFETY: a file's pages that nobody has written to: what is read there afterwards is what is there now. Nothing
        // that is loaded goes away while the C library calls.
        let advised = unsafe { libc::madvise(begin as *mut c_void, length, libc::MADV_DONTNEED) };
        if advised != 0 {
            // As of the system's own pages (vdso), and of locked ones.
            let fault = io::Error::last_os_error();
            tracing::debug!(%fault, "pages of the program stay in memory");
        }
    }
    0
}

fn writes_to_code(entry: &Dynamic) -> bool {
    entry.tag == CODE_IS_WRITTEN || (entry.tag == FLAGS && entry.value & FLAG_CODE_IS_WRITTEN != 0)
}

/// The pages that lie wholly within, as their address and length.
fn whole_pages((begin, length): (usize, usize)) -> Option<(usize, usize)> {
    let page = page_bytes()?;
    let first = begin.checked_next_multiple_of(page)?;
    let end = begin.checked_add(length)? / page * page;
    (first < end).then(|| (first, end - first))
}

#[expect(unsafe_code, reason = "the system's answer has no safe form")]
fn page_bytes() -> Option<usize> {
    // SAFETY: it takes a number, and answers one.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) })
        .ok()
        .filter(|&bytes| bytes > 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_whole_pages_are_taken() {
        let page = page_bytes().unwrap();
        assert_eq!(whole_pages((page, 2 * page)), Some((page, 2 * page)));
        assert_eq!(whole_pages((page + 1, 2 * page)), Some((2 * page, page)));
        assert_eq!(whole_pages((page, 2 * page - 1)), Some((page, page)));
        assert_eq!(whole_pages((page + 1, page)), None);
        assert_eq!(whole_pages((page, usize::MAX)), None);
        assert_eq!(whole_pages((usize::MAX, page)), None);
    }

    #[test]
    fn a_library_that_writes_to_its_code_is_known() {
        let entry = |tag, value| Dynamic { tag, value };
        assert!(writes_to_code(&entry(22, 0)));
        assert!(writes_to_code(&entry(30, 4 | 8)));
        assert!(!writes_to_code(&entry(30, 8)));
        assert!(!writes_to_code(&entry(1, 4)));
    }

    #[test]
    fn pages_of_files_leave_the_memory_and_come_back() {
        let mapped_kb = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status
                .lines()
                .find_map(|l| l.strip_prefix("RssFile:"))
                .unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        let before = mapped_kb();
        unmap();
        let after = mapped_kb();
        assert!(after < before, "{before} kB before, {after} after");
    }
}
