//! TCP options that rustix does not offer.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// An option whose value is a C `int`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum IntOption {
    /// `IP_BIND_ADDRESS_NO_PORT`: bind chooses the address only, connect the port. Without it the kernel must find a
    /// port that is free for every destination, and loopback connects fell from 74,000 to 2,500 a second.
    BindAddressNoPort,
    /// `TCP_NOTSENT_LOWAT`: see [`crate::limits::NOTSENT_LOWAT_BYTES`].
    NotsentLowat,
}

/// Sets an option of a socket.
#[expect(unsafe_code, reason = "rustix 1.1 has neither option")]
pub(crate) fn set_int(socket: BorrowedFd<'_>, option: IntOption, value: i32) -> io::Result<()> {
    let (level, name) = match option {
        IntOption::BindAddressNoPort => (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT),
        IntOption::NotsentLowat => (libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT),
    };
    let value: libc::c_int = value;
    // SAFETY: the descriptor is open for the lifetime of `socket`. The pointer is to a live local `c_int` and the
    // length is its size; the kernel only reads that many bytes and keeps no pointer. No other memory is touched.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
