//! The memory that this process holds: what it can give back while it only waits.
//!
//! What it implements: madvise(2), dl_iterate_phdr(3), elf(5).
//! Interface: [`drop_code`]. Read next: `runtime/pause.rs`, which waits.

/// `int madvise(void *addr, size_t length, MADV_DONTNEED)` for the program's own code and constants:
/// they are the file's, unchanged, so the kernel may forget where they lie and reads them again
/// from its cache when they are needed. A process that waits for hours then holds little more than
/// its stack.
///
/// Cannot fail in a way that matters: what was not forgotten stays. See madvise(2).
pub fn drop_code() {
    /// Called for each loaded object, the program itself first; returning 1 ends the walk.
    unsafe extern "C" fn forget(
        info: *mut libc::dl_phdr_info,
        _: libc::size_t,
        _: *mut libc::c_void,
    ) -> libc::c_int {
        const PAGE: u64 = 4096;
        // SAFETY: dl_iterate_phdr passes a valid description, whose table has `dlpi_phnum` entries
        // and lives as long as the object is loaded.
        let (base, headers) = unsafe {
            let info = &*info;
            let table = std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into());
            (info.dlpi_addr, table)
        };
        let fixed = headers
            .iter()
            .filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_W == 0);
        for header in fixed {
            let begin = (base + header.p_vaddr) & !(PAGE - 1);
            let end = base + header.p_vaddr + header.p_memsz;
            let length = (end - begin).next_multiple_of(PAGE) as usize;
            // SAFETY: a private mapping of a file that is never written to: dropped pages come back
            // with the same content, the page that executes this line among them.
            unsafe { libc::madvise(begin as *mut libc::c_void, length, libc::MADV_DONTNEED) };
        }
        1
    }
    // SAFETY: the callback has the type that is asked for and keeps no pointer.
    unsafe { libc::dl_iterate_phdr(Some(forget), std::ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_program_goes_on_and_holds_less() {
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
            let line = text.lines().find(|l| l.starts_with("Rss:")).unwrap();
            line.split_whitespace()
                .nth(1)
                .unwrap()
                .parse::<u64>()
                .unwrap()
        };
        let before = resident();
        super::drop_code();
        let after = resident();
        assert!(after < before, "{before} kB → {after} kB");
    }
}
