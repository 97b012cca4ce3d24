//! The names of signals (signal(7)), as systemd, people and images write them.

/// The signals by their names without SIG, with their numbers on this architecture (signal(7)).
const NAMED: [(&str, libc::c_int); 31] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// The number of the signal `name`, without SIG: one of signal(7), or `RTMIN+N`.
pub fn number(name: &str) -> Option<u8> {
    if let Some(offset) = name.strip_prefix("RTMIN+").and_then(|text| text.parse::<u8>().ok()) {
        return u8::try_from(libc::SIGRTMIN()).ok()?.checked_add(offset);
    }
    NAMED.iter().find(|(known, _)| *known == name).and_then(|(_, number)| u8::try_from(*number).ok())
}

/// The full name, such as `SIGQUIT`, of a signal that people write with or without SIG, in any case, or by its number.
pub fn full_name(text: &str) -> Option<String> {
    let upper = text.to_ascii_uppercase();
    let name = match text.parse::<i32>() {
        Ok(number) if number >= libc::SIGRTMIN() => format!("RTMIN+{}", number - libc::SIGRTMIN()),
        Ok(number) => NAMED.iter().find(|(_, known)| *known == number)?.0.to_owned(),
        Err(_) => upper.strip_prefix("SIG").unwrap_or(&upper).to_owned(),
    };
    let is_signal = number(&name).is_some_and(|number| i32::from(number) <= libc::SIGRTMAX());
    is_signal.then(|| format!("SIG{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_one_full_name_however_it_is_written() {
        for (text, name) in [
            ("SIGQUIT", Some("SIGQUIT")),
            ("quit", Some("SIGQUIT")),
            ("3", Some("SIGQUIT")),
            ("sigwinch", Some("SIGWINCH")),
            ("SIGRTMIN+3", Some("SIGRTMIN+3")),
            ("37", Some("SIGRTMIN+3")),
            ("0", None),
            ("-3", None),
            ("65", None),
            ("RTMIN+90", None),
            ("SIG", None),
            ("", None),
            ("TERM\nUser=0", None),
        ] {
            assert_eq!(full_name(text).as_deref(), name, "{text:?}");
        }
    }
}
