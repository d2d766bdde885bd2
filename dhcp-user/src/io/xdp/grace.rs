//! Grace periods, waited for on a thread of their own.
//!
//! `membarrier(MEMBARRIER_CMD_GLOBAL)` returns after an RCU grace period, and an XDP program runs inside an RCU
//! read side: afterwards no program runs that could have read an old entry. It takes some 8 ms (measured), so the
//! event loop does not wait; whatever was asked for while one period ran shares the next one.
#![expect(unsafe_code, reason = "membarrier(2) and eventfd(2)")]

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, Sender},
    },
    thread,
};

use crate::engine::port::Token;

/// A revocation whose grace period is over: `Err` when the kernel refused it.
pub(super) type Finished = (Token, io::Result<()>);

/// The thread that waits.
#[derive(Debug)]
pub(super) struct Grace {
    asked: Sender<Token>,
    finished: Arc<Mutex<Vec<Finished>>>,
    signal: Arc<OwnedFd>,
}

impl Grace {
    /// Waits for one grace period, to see that the kernel grants them, and starts the thread.
    ///
    /// # Errors
    ///
    /// What the kernel refuses.
    pub(super) fn start() -> io::Result<Self> {
        period()?;
        // SAFETY: a system call without pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        let signal = Arc::new(unsafe { OwnedFd::from_raw_fd(fd) });
        let finished = Arc::new(Mutex::new(Vec::new()));
        let (asked, questions) = mpsc::channel();
        let (of_thread, signal_of_thread) = (Arc::clone(&finished), Arc::clone(&signal));
        thread::Builder::new()
            .name("grace".to_owned())
            .spawn(move || wait_for_all(&questions, &of_thread, &signal_of_thread))?;
        Ok(Self { asked, finished, signal })
    }

    /// Asks for a grace period that begins after this call.
    pub(super) fn ask(&self, token: Token) {
        if self.asked.send(token).is_err() {
            // The thread is gone, which only a panic does; say so instead of waiting for ever.
            self.report(vec![(token, Err(io::Error::other("the grace thread has ended")))]);
        }
    }

    /// Takes what has finished since the last call, in the order it was asked for.
    pub(super) fn take_finished(&self) -> Vec<Finished> {
        drain(&self.signal);
        self.finished.lock().map(|mut finished| std::mem::take(&mut *finished)).unwrap_or_default()
    }

    /// Makes it readable although nothing has finished: what had is not dealt with yet.
    pub(super) fn remind(&self) {
        signal(&self.signal);
    }

    /// Readable when something has finished.
    pub(super) fn fd(&self) -> RawFd {
        self.signal.as_raw_fd()
    }

    fn report(&self, finished: Vec<Finished>) {
        push(&self.finished, &self.signal, finished);
    }
}

fn wait_for_all(questions: &Receiver<Token>, finished: &Mutex<Vec<Finished>>, signal: &OwnedFd) {
    while let Ok(first) = questions.recv() {
        let mut tokens = vec![first];
        tokens.extend(questions.try_iter());
        let outcome = period();
        let results = tokens
            .into_iter()
            .map(|token| (token, outcome.as_ref().copied().map_err(|error| io::Error::from(error.kind()))))
            .collect();
        push(finished, signal, results);
    }
}

fn push(to: &Mutex<Vec<Finished>>, fd: &OwnedFd, mut finished: Vec<Finished>) {
    if let Ok(mut list) = to.lock() {
        list.append(&mut finished);
    }
    signal(fd);
}

fn signal(fd: &OwnedFd) {
    let one = 1_u64.to_ne_bytes();
    // SAFETY: eight bytes to an eventfd; a full counter is readable already.
    unsafe { libc::write(fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
}

fn drain(signal: &OwnedFd) {
    let mut count = [0_u8; 8];
    // SAFETY: eight bytes from a non-blocking eventfd; an empty one changes nothing.
    unsafe { libc::read(signal.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
}

/// Waits until every XDP program that runs now has ended.
///
/// # Errors
///
/// Kernels with nohz_full refuse the command.
pub(super) fn period() -> io::Result<()> {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: a system call without pointers.
    match unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_asked_for_is_finished_once_and_in_order() {
        // Without privilege, too; a kernel that refuses (nohz_full) has no fast path to test.
        let grace = Grace::start().expect("this kernel grants no grace periods");
        for number in 0..20 {
            grace.ask(Token(number));
        }
        let mut seen = Vec::new();
        while seen.len() < 20 {
            let mut poll = libc::pollfd { fd: grace.fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one valid pollfd.
            assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 10_000) }, 1, "nothing finished in ten seconds");
            seen.extend(grace.take_finished().into_iter().map(|(token, outcome)| {
                outcome.unwrap();
                token.0
            }));
        }
        assert_eq!(seen, (0..20).collect::<Vec<_>>());
    }
}
