//! Lists of system calls: the two of the specification, what they have to be extended by today, and all that are known.
//!
//! A name counts as known when a kernel for x86 or ARM has the call and both systemd 252 and 257 take its name, each
//! with the libseccomp of its Debian; a booted test shows the whole list to the host's systemd. A newer call can't be
//! named: nspawn's own filter decides on it.

use std::collections::BTreeSet;

/// What an app may call unless it or its user says otherwise (spec pods.md 3.8, "Default allow list").
const DEFAULT: &str = "
    _llseek _newselect accept accept4 access alarm arch_prctl bind brk capget capset chdir chmod chown
    chown32 chroot clock_getres clock_gettime clock_nanosleep clone close connect copy_file_range creat dup
    dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_wait epoll_wait_old
    eventfd eventfd2 execve execveat exit exit_group faccessat fadvise64 fadvise64_64 fallocate
    fanotify_mark fchdir fchmod fchmodat fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr
    flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate
    ftruncate64 futex futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid
    getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp
    getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage
    getsid getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr inotify_add_watch
    inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_setup io_submit ioctl
    ioprio_get ioprio_set ipc kill lchown lchown32 lgetxattr link linkat listen listxattr llistxattr
    lremovexattr lseek lsetxattr lstat lstat64 madvise memfd_create mincore mkdir mkdirat mknod mknodat
    mlock mlock2 mlockall mmap mmap2 modify_ldt mprotect mq_getsetattr mq_notify mq_open mq_timedreceive
    mq_timedsend mq_unlink mremap msgctl msgget msgrcv msgsnd msync munlock munlockall munmap nanosleep
    newfstatat open openat pause personality pipe pipe2 poll ppoll prctl pread64 preadv prlimit64 pselect6
    pwrite64 pwritev read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmsg
    remap_file_pages removexattr rename renameat renameat2 restart_syscall rmdir rt_sigaction rt_sigpending
    rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
    sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam
    sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop send sendfile sendfile64
    sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid
    setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32
    setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid
    setuid32 setxattr shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigreturn socket
    socketcall socketpair splice stat stat64 statfs statfs64 symlink symlinkat sync sync_file_range syncfs
    sysinfo syslog tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_settime
    timerfd_create timerfd_gettime timerfd_settime times tkill truncate truncate64 ugetrlimit umask uname
    unlink unlinkat utime utimensat utimes vfork vmsplice wait4 waitid waitpid write writev
";

/// What today's C libraries and programs call, and none of which is on, or of the kind of, what is blocked; the last
/// ones are of ARM. What copies the memory or the descriptors of other processes (`process_madvise`, `pidfd_getfd`) is
/// of the kind of ptrace, and stays out as the calls of io_uring do.
const ADDED: &str = "
    arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush cachestat clock_getres_time64 clock_gettime64
    clock_nanosleep_time64 clone3 close_range epoll_pwait2 faccessat2 fchmodat2 futex_requeue futex_time64
    futex_wait futex_waitv futex_wake io_pgetevents io_pgetevents_time64 landlock_add_rule
    landlock_create_ruleset landlock_restrict_self map_shadow_stack membarrier memfd_secret
    mq_timedreceive_time64 mq_timedsend_time64 openat2 pidfd_open pidfd_send_signal pkey_alloc pkey_free
    pkey_mprotect ppoll_time64 preadv2 process_mrelease pselect6_time64 pwritev2 recvmmsg_time64 rseq
    rt_sigtimedwait_time64 sched_rr_get_interval_time64 semtimedop_time64 set_tls statx sync_file_range2
    timer_gettime64 timer_settime64 timerfd_gettime64 timerfd_settime64 utimensat_time64
";

/// What is blocked by the other way of saying it (spec pods.md 3.8, "Default block list").
const BLOCKED: &str = "
    _sysctl acct add_key adjtimex bpf clock_adjtime clock_settime clone create_module delete_module
    finit_module get_kernel_syms get_mempolicy init_module ioperm iopl kcmp kexec_file_load kexec_load
    keyctl lookup_dcookie mbind mount move_pages name_to_handle_at nfsservctl open_by_handle_at
    perf_event_open personality pivot_root process_vm_readv process_vm_writev ptrace query_module quotactl
    reboot request_key set_mempolicy setns settimeofday stime swapoff swapon sysfs umount umount2 unshare
    uselib userfaultfd ustat vm86 vm86old
";

/// What is on none of the lists.
const OTHERS: &str = "
    clock_adjtime64 clock_settime64 fanotify_init fsconfig fsmount fsopen fspick io_uring_enter
    io_uring_register io_uring_setup migrate_pages mount_setattr move_mount nice oldfstat oldlstat
    oldolduname oldstat olduname open_tree pidfd_getfd process_madvise quotactl_fd readdir
    set_mempolicy_home_node setdomainname sethostname sgetmask sigaction signal sigpending sigprocmask
    sigsuspend ssetmask vhangup
";

/// What starting and ending a program takes, and a return from a signal's handler: never blocked by leaving it out.
/// systemd 252 itself writes a byte between the filter and the program (`Type=exec`).
const NEEDED: &str = "execve execveat exit exit_group restart_syscall rt_sigreturn sigreturn write";

fn words(lists: &[&'static str]) -> BTreeSet<&'static str> {
    lists.iter().flat_map(|list| list.split_ascii_whitespace()).collect()
}

/// Every call that can be named.
pub(super) fn known() -> BTreeSet<&'static str> {
    words(&[DEFAULT, ADDED, BLOCKED, OTHERS])
}

/// What an app may call by default.
pub(super) fn allowed_by_default() -> BTreeSet<&'static str> {
    words(&[DEFAULT, ADDED])
}

/// The block list, with `clone` and `personality`, which are on both lists.
pub(super) fn blocked_by_default() -> BTreeSet<&'static str> {
    words(&[BLOCKED])
}

/// What any list of allowed calls has.
pub(super) fn needed() -> BTreeSet<&'static str> {
    words(&[NEEDED])
}

/// The set of systemd (systemd.exec(5), `SystemCallFilter=`) that `name` behind `@systemd/` stands for.
pub(super) fn of_systemd(name: &str) -> Option<&'static str> {
    Some(match name {
        "clock" => "@clock",
        "default-whitelist" => "@default",
        "mount" => "@mount",
        "network-io" => "@network-io",
        "obsolete" => "@obsolete",
        "privileged" => "@privileged",
        "process" => "@process",
        "raw-io" => "@raw-io",
        _ => return None,
    })
}

/// The errors of the kernel that systemd knows by name (errno(3)); of two names for one number the kernel's own.
pub(super) const ERRORS: &str = "
    E2BIG EACCES EADDRINUSE EADDRNOTAVAIL EADV EAFNOSUPPORT EAGAIN EALREADY EBADE EBADF EBADFD EBADMSG EBADR EBADRQC
    EBADSLT EBFONT EBUSY ECANCELED ECHILD ECHRNG ECOMM ECONNABORTED ECONNREFUSED ECONNRESET EDEADLK EDESTADDRREQ EDOM
    EDOTDOT EDQUOT EEXIST EFAULT EFBIG EHOSTDOWN EHOSTUNREACH EHWPOISON EIDRM EILSEQ EINPROGRESS EINTR EINVAL EIO EISCONN
    EISDIR EISNAM EKEYEXPIRED EKEYREJECTED EKEYREVOKED EL2HLT EL2NSYNC EL3HLT EL3RST ELIBACC ELIBBAD ELIBEXEC ELIBMAX
    ELIBSCN ELNRNG ELOOP EMEDIUMTYPE EMFILE EMLINK EMSGSIZE EMULTIHOP ENAMETOOLONG ENAVAIL ENETDOWN ENETRESET ENETUNREACH
    ENFILE ENOANO ENOBUFS ENOCSI ENODATA ENODEV ENOENT ENOEXEC ENOKEY ENOLCK ENOLINK ENOMEDIUM ENOMEM ENOMSG ENONET ENOPKG
    ENOPROTOOPT ENOSPC ENOSR ENOSTR ENOSYS ENOTBLK ENOTCONN ENOTDIR ENOTEMPTY ENOTNAM ENOTRECOVERABLE ENOTSOCK ENOTTY
    ENOTUNIQ ENXIO EOPNOTSUPP EOVERFLOW EOWNERDEAD EPERM EPFNOSUPPORT EPIPE EPROTO EPROTONOSUPPORT EPROTOTYPE ERANGE
    EREMCHG EREMOTE EREMOTEIO ERESTART ERFKILL EROFS ESHUTDOWN ESOCKTNOSUPPORT ESPIPE ESRCH ESRMNT ESTALE ESTRPIPE ETIME
    ETIMEDOUT ETOOMANYREFS ETXTBSY EUCLEAN EUNATCH EUSERS EXDEV EXFULL
";

/// Finds the kernel's name of an error.
pub(super) fn error(name: &str) -> Option<&'static str> {
    let own = match name {
        "EWOULDBLOCK" => "EAGAIN",
        "EDEADLOCK" => "EDEADLK",
        "ENOTSUP" => "EOPNOTSUPP",
        other => other,
    };
    ERRORS.split_ascii_whitespace().find(|known| *known == own)
}
