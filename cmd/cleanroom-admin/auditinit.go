package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"cleanroom/executor"
	"cleanroom/executor/audit/ledger"
	"cleanroom/executor/audit/record"
)

// signTime bounds a command that signs by hand: a token may want to be touched.
const signTime = 2 * time.Minute

func auditInit(g *globals) *cobra.Command {
	var origin string
	c := &cobra.Command{
		Use: "init", Short: "Make this host's audit log and the key that signs it", Args: cobra.NoArgs,
		Long: "Make the audit log, in data_dir/audit. From then on each job has its record there. The key that signs the log is\n" +
			"a new file of mode 0600 beside it, or is behind audit.sign_command (a TPM, an HSM, a cloud's KMS).\n\n" +
			"The public key is printed: keep it off this host. Who has it can verify the log, and each record of it, without\n" +
			"believing the host. The origin is the log's name, for good; it should be one that no other log has.\n\n" +
			"What was cut short is finished by calling it again. Where there is a log, its first public key is printed, and\n" +
			"nothing is changed.",
		Example: "  cleanroom audit init\n  cleanroom audit init --origin ci.example.com/runner-7 | ssh auditor 'cat > runner-7.key'",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := g.load()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), signTime)
			defer cancel()
			if !c.Flags().Changed("origin") {
				origin = ""
			}
			l, made, err := ledger.Init(ctx, cfg, origin, func(origin, vkey string) ([]byte, error) {
				return (&executor.Audit{Version: version}).Text(record.OfBegun, "audit init", func(r *record.Record) {
					r.Begun = &record.Begun{Origin: origin, Key: vkey}
				})
			})
			if err != nil {
				return err
			}
			if made {
				fmt.Fprintf(c.ErrOrStderr(), "audit log %s begins in %s; keep its public key off this host:\n", l.Keys().Origin(), ledger.Dir(cfg))
			} else {
				fmt.Fprintf(c.ErrOrStderr(), "audit log %s is in %s already, and stays as it is; keep its public key off this host:\n", l.Keys().Origin(), ledger.Dir(cfg))
			}
			if _, err := fmt.Fprintln(c.OutOrStdout(), l.Keys().First); err != nil {
				return err
			}
			if !made {
				return nil
			}
			return l.Drain(ctx) // what was done where a log is required, before there was one
		},
	}
	c.Flags().StringVar(&origin, "origin", ledger.DefaultOrigin(), "name of the log")
	return c
}

func auditRotate(g *globals) *cobra.Command {
	var oldCommand []string
	var oldPublic string
	c := &cobra.Command{
		Use: "rotate-key", Short: "Have the audit log signed by another key from now on", Args: cobra.NoArgs,
		Long: "Have the audit log signed by a new key: a new file, or, with audit.sign_command, the one that this command has.\n" +
			"The change is a record of the log and is signed by both keys, so that whoever has the first public key can still\n" +
			"verify everything. A file's old private key is destroyed. What was cut short is finished by calling it again.\n\n" +
			"Where a command had the old key, name it: it is asked once more.",
		Example: "  cleanroom audit rotate-key\n" +
			"  cleanroom audit rotate-key --old-command /usr/local/bin/kms-sign --old-command key-1 --old-public-key 'MCowBQ...'",
		RunE: func(c *cobra.Command, _ []string) error {
			l, cfg, err := g.openLedger()
			if err != nil {
				return err
			}
			if (len(oldCommand) > 0) != (oldPublic != "") {
				return errors.New("--old-command and --old-public-key belong together")
			}
			old := cfg
			old.Audit.SignCommand, old.Audit.PublicKey = oldCommand, oldPublic
			ctx, cancel := context.WithTimeout(c.Context(), signTime)
			defer cancel()
			return l.Rotate(ctx, old, func(before, after, where string) ([]byte, error) {
				return (&executor.Audit{Version: version}).Text(record.OfKey, "audit rotate-key", func(r *record.Record) {
					r.Key = &record.Key{Before: before, After: after, Signer: where}
				})
			}, func(after string, late bool) error {
				words := "the audit log is signed by a new key, which the old one vouches for:"
				if late {
					words = "a rotation that was cut short is finished, and no other was begun; this is the key it was to, which the old one vouches for:"
				}
				fmt.Fprintln(c.ErrOrStderr(), words)
				_, err := fmt.Fprintln(c.OutOrStdout(), after)
				return err
			})
		},
	}
	c.Flags().StringArrayVar(&oldCommand, "old-command", nil, "program that has the old key, then each of its arguments (repeated)")
	c.Flags().StringVar(&oldPublic, "old-public-key", "", "public half of the old key")
	return c
}

func auditKey(g *globals) *cobra.Command {
	var pem bool
	c := &cobra.Command{
		Use: "key", Short: "Print the log's first public key, by which all of it can be verified", Args: cobra.NoArgs,
		Long: "Print the log's first public key, by which all of the log can be verified: the keys that followed are in it. With\n" +
			"--pem, print all keys, first to last, as programs that verify provenance read them.",
		Example: "  cleanroom audit key > runner-7.key\n  cleanroom audit key --pem > runner-7.pem",
		RunE: func(c *cobra.Command, _ []string) error {
			l, _, err := g.openLedger()
			if err != nil {
				return err
			}
			if !pem {
				_, err = io.WriteString(c.OutOrStdout(), l.Keys().First+"\n")
				return err
			}
			for _, vkey := range l.Keys().All() {
				text, err := pemOf(vkey)
				if err != nil {
					return err
				}
				if _, err := c.OutOrStdout().Write(text); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&pem, "pem", false, "print all keys as PEM (PKIX)")
	return c
}
