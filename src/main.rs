//! One binary, several names: by the last part of argv[0] it is `rkt` or `acbuild`.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
