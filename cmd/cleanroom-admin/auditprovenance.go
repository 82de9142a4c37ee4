package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"cleanroom/cmd/internal/stages"
	"cleanroom/executor/audit/key"
	"cleanroom/executor/audit/provenance"
	"cleanroom/executor/audit/provenance/slsa"
)

// errNoProvenance is a job of which nothing was signed, or nothing is kept.
var errNoProvenance = errors.New("there is no provenance of it: it stored no files, or it is longer ago than 90 days")

// errOtherJob is an envelope that lies where another job's belong.
var errOtherJob = errors.New("the provenance is of the job")

func auditProvenance(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "provenance JOB|ROOM", Short: "Print the signed provenance of what a job stored", Args: cobra.ExactArgs(1),
		Long: "Print the DSSE envelopes, one a line, that were signed for a job's artifacts: in-toto statements with SLSA\n" +
			"provenance v1. Each is verified with the log's keys, and not printed if none of them signed it, or if it is about\n" +
			"another job; the exit code is 1 then. `cleanroom audit key --pem` prints the key by which others verify them.",
		Example: "  cleanroom audit provenance 4711 >provenance.intoto.jsonl\n" +
			"  cleanroom audit provenance 4711 | jq -r .payload | base64 -d | jq .subject",
		RunE: func(c *cobra.Command, args []string) error {
			l, cfg, err := g.openLedger()
			if err != nil {
				return err
			}
			keys, err := l.PublicKeys()
			if err != nil {
				return err
			}
			rooms, err := provenance.Rooms(cfg.DataDir)
			if err != nil {
				return err
			}
			found := false
			var failed []error
			for _, room := range rooms {
				number, ok := stages.JobOf(room)
				job := strconv.FormatInt(number, 10)
				if room != args[0] && (!ok || job != args[0]) {
					continue
				}
				lines, err := provenance.Kept(cfg.DataDir, room)
				failed = append(failed, err)
				for _, line := range lines {
					found = true
					s, err := slsa.Verify(line, keys...)
					if err == nil && slsa.JobOf(s) != job {
						err = fmt.Errorf("%w %.20q: somebody moved it", errOtherJob, slsa.JobOf(s))
					}
					if err != nil {
						failed = append(failed, fmt.Errorf("%s: %w", room, err))
						continue
					}
					if _, err := c.OutOrStdout().Write(line); err != nil {
						return err
					}
				}
			}
			if err := errors.Join(failed...); err != nil || found {
				return err
			}
			return fmt.Errorf("%q: %w", args[0], errNoProvenance)
		},
	}
}

// pemOf is a public key as other programs read it.
func pemOf(vkey string) ([]byte, error) {
	public, err := key.Ed25519(vkey)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}
