# The commands of the project. `make` builds, `make test` tests everything, `make demo` shows it at work.

PREFIX ?= /usr/local
DESTDIR ?=
RELEASE ?= bookworm
# Which build is installed: release or debug.
BUILD ?= release
CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)

.PHONY: all
all:
	$(CARGO) build --release --locked

# Formatting, lints, unit tests, tests of the binary, and the booted tests on both Debian releases in the lab.
.PHONY: test
test:
	tests/run

# The main job, from a C program to a pod and back, with each command and its real output.
.PHONY: demo
demo:
	tests/demo/run $(RELEASE)

# A shell in the booted lab with rkt and acbuild installed; RELEASE=trixie for Debian 13.
.PHONY: lab
lab: all
	tests/lab/shell $(RELEASE)

# Medians of interleaved runs, against raw systemd-nspawn and podman.
.PHONY: bench
bench:
	tests/bench/run $(RELEASE)

# Each command ended at each of its calls that change something, and what rkt promises for that checked.
.PHONY: crash
crash:
	tests/crash/run $(RELEASE)

# Generated inputs for everything that reads what strangers write: ten minutes a target. TARGET=archive SECONDS=60 for one
# of manifests, references, archive, oci and discovery; what is found is kept in tests/corpus.
.PHONY: fuzz
fuzz:
	FUZZ_SECONDS=$(or $(SECONDS),600) $(CARGO) test --locked --test fuzz \
		--config profile.dev.package.rkt.opt-level=1 -- --nocapture --test-threads=1 $(if $(TARGET),--exact $(TARGET))

# Limits of memory and processor time, and what becomes of an app that wants more: in a virtual machine, since a lab has only
# those cgroup controllers that this machine lends it. Emulated, so a matter of minutes, and no part of `make test`.
.PHONY: limits
limits:
	tests/vm/run $(RELEASE)

# The manual pages, made from the same definitions as the commands' own help.
.PHONY: man
man:
	$(CARGO) run --quiet --locked --example man -- $(TARGET_DIR)/man

# Files under units/, dbus/ and packaging/ lie at the path that they will have; PREFIX takes the place of /usr.
.PHONY: install
install: man
	install -D -m 755 $(TARGET_DIR)/$(BUILD)/rkt $(DESTDIR)$(PREFIX)/bin/rkt
	ln -sfn rkt $(DESTDIR)$(PREFIX)/bin/acbuild
	ln -sfn rkt $(DESTDIR)$(PREFIX)/bin/docker2aci
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
		$(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	install -m 644 $(TARGET_DIR)/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1
	$(TARGET_DIR)/$(BUILD)/rkt completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/rkt
	$(TARGET_DIR)/$(BUILD)/rkt completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_rkt
	$(TARGET_DIR)/$(BUILD)/rkt completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/rkt.fish
	@set -e; for tree in units dbus packaging; do \
		[ ! -d $$tree/usr ] || (cd $$tree/usr && find . -type f) | sed 's,^\./,,' | while read -r file; do \
			install -D -m 644 $$tree/usr/$$file $(DESTDIR)$(PREFIX)/$$file; done; \
		[ ! -d $$tree/etc ] || (cd $$tree/etc && find . -type f) | sed 's,^\./,,' | while read -r file; do \
			install -D -m 644 $$tree/etc/$$file $(DESTDIR)/etc/$$file; done; \
	done

.PHONY: fmt
fmt:
	$(CARGO) fmt

.PHONY: clippy
clippy:
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --test booted --test installed --test limits --test bench --test crash -- -D warnings

# Takes down this project's labs that were killed half way, too; the cached root file systems stay.
.PHONY: clean
clean:
	$(CARGO) clean
	[ "$$(id -u)" != 0 ] || tests/lab/lab sweep
