package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"cleanroom/cmd/internal/stages"
	"cleanroom/executor"
	"cleanroom/executor/audit/key"
	"cleanroom/executor/audit/provenance"
	"cleanroom/executor/audit/provenance/slsa"
	"cleanroom/executor/pool"
)

// What is wrong with the provenance of a job.
var (
	// errNoProvenance is a job of which nothing was signed, or nothing is kept.
	errNoProvenance = errors.New("there is no provenance of it: it stored no files, or it is longer ago than 90 days")
	// errOtherJob is an envelope that lies where another job's belong.
	errOtherJob = errors.New("the provenance is of the job")
	// errMissing is an envelope that is not there, though the log knows of it.
	errMissing = errors.New("an envelope that was signed is missing")
	// errUnrecorded is one that the job's record does not have.
	errUnrecorded = errors.New("no record of the job has its SHA-256: it was changed, or was tried in vain")
)

func auditProvenance(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "provenance JOB|ROOM", Short: "Print the signed provenance of what a job stored", Args: cobra.ExactArgs(1),
		Long: "Print the DSSE envelopes, one a line, that were signed for a job's artifacts: in-toto statements with SLSA\n" +
			"provenance v1. Each is verified with the log's keys, and not printed if none of them signed it, if it is about\n" +
			"another job, or if the job has a record and its SHA-256 is not there; the exit code is 1 then, and where one that\n" +
			"the record has is missing. `cleanroom audit key --pem` prints the key by which others verify them.",
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
			all, err := recordsOf(l, args[0])
			if err != nil && !errors.Is(err, errNoRecord) { // none: the job is not over
				return err
			}
			lines, err := envelopes(cfg.DataDir, args[0], keys, all)
			for _, line := range lines {
				if _, err := c.OutOrStdout().Write(line); err != nil {
					return err
				}
			}
			return err
		},
	}
}

// envelopes are those of a job, or of a room, that hold: by the log's keys, and
// by its records once there are any. The error is of those that do not.
func envelopes(dataDir, name string, keys []ed25519.PublicKey, all []kept) (lines [][]byte, err error) {
	rooms, err := provenance.Rooms(dataDir)
	if err != nil {
		return nil, err
	}
	missing, over := map[string]kept{}, map[string]bool{} // by SHA-256; by room
	for _, r := range all {
		if r.Job == nil {
			continue
		}
		over[r.Job.Room] = true
		for _, p := range r.Job.Provenance {
			missing[p.SHA256] = r
		}
	}
	recorded := maps.Clone(missing)
	found := len(missing) > 0
	var failed []error
	for _, room := range rooms {
		number, ok := stages.JobOf(room)
		job := strconv.FormatInt(number, 10)
		ahead := pool.Named(room) && room != name && !over[room] // whose it is only the statement says
		if room != name && !over[room] && !ahead && (!ok || job != name) {
			continue
		}
		kept, err := provenance.Kept(dataDir, room)
		failed = append(failed, err)
		for _, line := range kept {
			s, err := slsa.Verify(line, keys...)
			if ahead && (err != nil || slsa.JobOf(s) != name) {
				continue
			}
			found = true
			sum := sha256.Sum256(line)
			hash := hex.EncodeToString(sum[:])
			delete(missing, hash)
			switch r, is := recorded[hash]; {
			case err != nil:
			case ok && slsa.JobOf(s) != job:
				err = fmt.Errorf("%w %.20q: somebody moved it", errOtherJob, slsa.JobOf(s))
			case over[room] && (!is || r.Job.Room != room):
				err = fmt.Errorf("%w (%s)", errUnrecorded, hash)
			default:
				lines = append(lines, line)
			}
			if err != nil {
				failed = append(failed, fmt.Errorf("%s: %w", room, err))
			}
		}
	}
	for _, hash := range slices.Sorted(maps.Keys(missing)) {
		r, why := missing[hash], "somebody removed it"
		if time.Since(r.At) > executor.KeepProvenance {
			why = "it is longer ago than 90 days"
		}
		failed = append(failed, fmt.Errorf("%s: %w: record %d has its SHA-256, %s: %s", r.Job.Room, errMissing, r.index, hash, why))
	}
	if err := errors.Join(failed...); err != nil || found {
		return lines, err
	}
	return nil, fmt.Errorf("%q: %w", name, errNoProvenance)
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
