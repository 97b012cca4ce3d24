//! Golden files: generated text that is kept under `tests/golden` and read as a diff when it changes.

use std::path::Path;

/// Compares `text` with the golden file `name` (relative to `tests/golden`). With `UPDATE_GOLDEN=1` in the environment
/// the file is written instead, to be looked at with `git diff`.
pub(crate) fn assert_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        let dir = path.parent().expect("a golden file has a directory");
        std::fs::create_dir_all(dir).expect("the directory of golden files can be made");
        std::fs::write(&path, text).expect("the golden file can be written");
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = golden.lines().zip(text.lines()).position(|(old, new)| old != new);
    let first = differs.unwrap_or_else(|| golden.lines().count().min(text.lines().count()));
    assert!(
        golden == text,
        "{} differs from line {}:\n--- golden\n{golden}\n--- now\n{text}\n(UPDATE_GOLDEN=1 writes it)",
        path.display(),
        first + 1,
    );
}
