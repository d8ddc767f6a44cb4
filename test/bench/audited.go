package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"passbook/test/bench/internal/report"
)

// audited is P1 with all that is for auditors and for the law switched on, compared with a server that has it switched off.
func (b *bench) audited(ctx context.Context) (lines []report.Line, err error) {
	dir, err := os.MkdirTemp(b.dir, "passbook-bench-keys-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	keys, err := b.testbed.CreateDatabase(ctx, "subjects")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.testbed.DropDatabase(context.WithoutCancel(ctx), keys)) }()
	settings, err := b.auditSettings(ctx, dir, keys.URL)
	if err != nil {
		return nil, err
	}
	off, err := b.open(ctx, "off", b.accounts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, off.close(ctx)) }()
	on, err := b.open(ctx, "audited", b.accounts, settings...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, on.close(ctx)) }()
	baseline := &subject{site: off, load: b.depositLoad()}
	measured := &subject{site: on, load: b.depositLoad()}
	for _, s := range []*subject{baseline, measured} {
		if err := s.warm(ctx); err != nil {
			return nil, err
		}
	}
	if err := b.alternate(ctx, baseline.turn("all off:"), measured.turn("all on:")); err != nil {
		return nil, err
	}
	line := report.Line{
		ID: "P1 audited", What: "POST /deposits; the log signed, personal text sealed, reads recorded", Versus: "the same with all three off", Unit: "/s",
		Baseline: baseline.seen.rate, Rule: report.Rule{Must: 0.9, Goal: 1},
	}
	measured.fill(&line)
	return []report.Line{line}, nil
}

// auditSettings makes keys in dir and returns the settings of a server that signs the log, seals personal text, and records every read.
func (b *bench) auditSettings(ctx context.Context, dir, keysURL string) ([]string, error) {
	signing, master := filepath.Join(dir, "signing.key"), filepath.Join(dir, "master.key")
	keygen := exec.CommandContext(ctx, b.server, "audit", "keygen", "bench/log", signing)
	keygen.Env = []string{"PATH=" + b.path}
	if out, err := keygen.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("server audit keygen: %w: %s", err, out)
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	if err := os.WriteFile(master, []byte(hex.EncodeToString(key)+"\n"), 0o600); err != nil {
		return nil, err
	}
	return []string{
		"PASSBOOK_SIGNING_KEY_FILE=" + signing, "PASSBOOK_CHECKPOINT_FILE=" + filepath.Join(dir, "checkpoints"),
		"PASSBOOK_SUBJECT_MASTER_KEY_FILE=" + master, "PASSBOOK_SUBJECT_KEYS_DATABASE_URL=" + keysURL, "PASSBOOK_ACCESS_AUDIT=all",
	}, nil
}
