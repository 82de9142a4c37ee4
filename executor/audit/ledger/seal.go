package ledger

import (
	"context"
	"crypto/ed25519"
	"fmt"

	"cleanroom/executor/audit/key"
	"cleanroom/executor/audit/provenance"
	"cleanroom/executor/audit/provenance/slsa"
)

// Builder is the URI by which provenance names this host: the log's origin,
// which its admin chose.
func (l *Ledger) Builder() string { return "https://" + l.Keys().Origin() }

// Seal makes provenance and signs it with the key that the log has now; hide
// gives a text without the job's secrets. It cannot be taken for a checkpoint:
// what DSSE signs does not end with a line's end, and a note must.
// provenance.ErrNoSubject and ErrJob: there is nothing to sign.
func (l *Ledger) Seal(ctx context.Context, job provenance.Job, files []provenance.File, hide func(string) string) (provenance.Envelope, error) {
	statement, err := slsa.New(job, files, hide)
	if err != nil {
		return provenance.Envelope{}, err
	}
	made, err := slsa.Read(statement)
	if err != nil {
		return provenance.Envelope{}, err
	}
	line, err := l.seal(ctx, statement)
	return provenance.Envelope{Line: line, Subjects: len(made.GetSubject())}, err
}

func (l *Ledger) seal(ctx context.Context, statement []byte) (line []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, appendTime)
	defer cancel()
	now, err := Open(l.config) // the key may have been changed since we began
	if err != nil {
		return nil, err
	}
	vkey := now.Keys().Current()
	public, err := key.Ed25519(vkey)
	if err != nil {
		return nil, err
	}
	signer, err := now.source(ctx)(vkey)
	if err != nil {
		return nil, fmt.Errorf("sign provenance: %w", err)
	}
	return slsa.Seal(ctx, statement, public, sealer{signer})
}

// sealer is a key of ours as package slsa wants it. The context is the
// signing command's already.
type sealer struct{ *key.Signer }

func (s sealer) Sign(_ context.Context, pae []byte) ([]byte, error) { return s.Signer.Sign(pae) }

// PublicKeys are all that were ever the log's, as provenance is verified.
func (l *Ledger) PublicKeys() (all []ed25519.PublicKey, err error) {
	for _, vkey := range l.Keys().All() {
		public, err := key.Ed25519(vkey)
		if err != nil {
			return nil, err
		}
		all = append(all, public)
	}
	return all, nil
}
