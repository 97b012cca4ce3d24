//! Help, completion and their texts (spec cli.md 1.1.5, 1.4.5).

use crate::world::World;

const GLOBAL: &str = "\
GLOBAL OPTIONS:
\t--debug=false\t\t\tPrint out more debug information to stderr
\t--dir=/var/lib/rkt\t\tData directory
\t-h, --help\t\t\tPrint help
\t--insecure-options=none\t\tComma-separated list of security features to disable: none, image, tls, ondisk, http, pubkey, capabilities, paths, seccomp, all-fetch, all-run, all
\t--local-config=/etc/rkt\t\tLocal configuration directory
\t--system-config=/usr/lib/rkt\tSystem configuration directory
\t--trust-keys-from-https=false\tAutomatically trust GPG keys fetched from HTTPS
\t--user-config=DIR\t\tUser configuration directory
";

#[test]
fn help_of_a_command_has_its_sections_in_order() {
    let world = World::new();
    let version =
        format!("NAME:\n\tversion - Print the version and exit\n\nUSAGE:\n\trkt version\n\n{GLOBAL}");
    for line in [
        "help version",
        "version --help",
        "version -h",
        "--help version",
        "help vers",
        "-h version x --debug",
    ] {
        world.run(line).expect(0, &version, "");
    }
    let completion = world.run("completion --help").stdout;
    let expected = "NAME:\n\
                    \tcompletion - Output shell completion code for the specified shell\n\n\
                    USAGE:\n\
                    \trkt completion [SHELL]...\n\n\
                    DESCRIPTION:\n\
                    \tFor bash, put the output where bash-completion looks, or read it at once:\n\n\
                    \t    source <(rkt completion bash)\n\n\
                    \tOther shells: zsh, fish.\n\n";
    assert_eq!(completion, format!("{expected}{GLOBAL}"));
}

#[test]
fn help_of_rkt_lists_commands_by_their_path() {
    let world = World::new();
    let help = world.run("help").stdout;
    for line in ["--help", "-h", "--help=true", "--debug -h"] {
        world.run(line).expect(0, &help, "");
    }
    let headings: Vec<_> =
        help.lines().filter(|line| line.ends_with(':') && !line.starts_with('\t')).collect();
    assert_eq!(headings, ["NAME:", "USAGE:", "VERSION:", "COMMANDS:", "OPTIONS:", "GLOBAL OPTIONS:"]);
    let commands: Vec<_> = help
        .split("COMMANDS:\n")
        .nth(1)
        .and_then(|rest| rest.split("\n\n").next())
        .into_iter()
        .flat_map(str::lines)
        .collect();
    let names: Vec<_> =
        commands.iter().filter_map(|line| line.strip_prefix('\t')?.split('\t').next()).collect();
    assert_eq!(
        names,
        [
            "api-service",
            "cat-manifest",
            "completion",
            "config",
            "enter",
            "export",
            "fetch",
            "gc",
            "help",
            "image cat-manifest",
            "image export",
            "image extract",
            "image gc",
            "image list",
            "image render",
            "image rm",
            "image verify",
            "list",
            "logs",
            "metadata-service",
            "prepare",
            "rm",
            "run",
            "run-prepared",
            "status",
            "stop",
            "trust",
            "version",
        ]
    );
}

#[test]
fn every_command_has_help_of_its_own() {
    let world = World::new();
    let help = world.run("help").stdout;
    let commands =
        help.split("COMMANDS:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap_or_default();
    for line in commands.lines() {
        let name = line.trim_start().split('\t').next().unwrap_or_default();
        let ended = world.run(&format!("help {name}"));
        ended.expect_code(0);
        assert!(ended.stdout.starts_with(&format!("NAME:\n\t{name} - ")), "{}", ended.stdout);
        world.run(&format!("{name} --help")).expect(0, &ended.stdout, "");
    }
}

#[test]
fn help_for_an_unknown_command_is_an_error() {
    let world = World::new();
    world.run("help frobnicate").expect(
        254,
        "",
        "Error: unknown command \"frobnicate\" for \"rkt\"\nRun 'rkt --help' for usage.\n",
    );
}

#[test]
fn help_marks_what_comes_later() {
    let world = World::new();
    let help = world.run("help run").stdout;
    assert!(help.contains("\t--mds-register=false\t"), "{help}");
    for line in help.lines().filter(|line| line.contains("--mds-register") || line.contains("--stage1-name="))
    {
        assert!(line.ends_with("(not in this version yet)"), "{line}");
    }
    assert!(!help.contains("--store-only") && !help.contains("--stdin"), "{help}");
}

#[test]
fn completion_is_written_for_three_shells() {
    let world = World::new();
    for (shell, start) in [("bash", "_rkt() {"), ("zsh", "#compdef rkt"), ("fish", "# Print an optspec")] {
        let script = world.rkt(&format!("completion {shell}")).stdout();
        assert!(script.starts_with(start), "{shell}: {}", &script[..100.min(script.len())]);
        assert!(script.contains("run-prepared"), "{shell}");
    }
    for (line, error) in [
        ("completion", "shell type is not specified"),
        ("completion bash zsh", "too many arguments, only shell type is expected"),
        ("completion csh", "'csh' shell is not supported"),
    ] {
        world.run(line).expect(254, "", &format!("completion: {error}\n"));
    }
}
