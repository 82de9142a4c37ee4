package slsa

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"

	intoto "github.com/in-toto/attestation/go/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"google.golang.org/protobuf/encoding/protojson"

	"cleanroom/executor/audit/provenance"
)

// PayloadType is what an envelope says it holds.
const PayloadType = "application/vnd.in-toto+json"

// Errors about envelopes.
var (
	// ErrEnvelope is something that is no provenance of ours.
	ErrEnvelope = errors.New("no envelope with provenance")
	// ErrSignature is one that was not signed by a key it must be signed by.
	ErrSignature = errors.New("the signature of the provenance is wrong")
)

// Signer signs what DSSE calls the PAE, with Ed25519. It may be a command, or
// a service.
type Signer interface {
	Sign(ctx context.Context, pae []byte) (sig []byte, err error)
}

// Key is a private key that lies in memory.
type Key struct{ crypto.Signer }

// Sign implements Signer.
func (k Key) Sign(_ context.Context, pae []byte) ([]byte, error) {
	return k.Signer.Sign(nil, pae, crypto.Hash(0)) // Ed25519 needs no randomness and hashes by itself
}

// Seal signs a statement: an envelope in one line, with its end, which is also
// a .jsonl file. The key's ID is public's SHA-256 fingerprint as OpenSSH has
// it: verifiers, if they are only given a key, compare this one. The error is
// the signer's, or wraps ErrSignature: it signed with another key.
func Seal(ctx context.Context, statement []byte, public ed25519.PublicKey, by Signer) ([]byte, error) {
	key, err := keyOf(public)
	if err != nil {
		return nil, err
	}
	signer, err := dsse.NewEnvelopeSigner(signing{key, by})
	if err != nil {
		return nil, err
	}
	envelope, err := signer.SignPayload(ctx, PayloadType, statement)
	if err != nil {
		return nil, fmt.Errorf("sign provenance: %w", err)
	}
	line, err := json.Marshal(envelope)
	if err != nil {
		return nil, err
	}
	if _, err := Verify(line, public); err != nil {
		return nil, fmt.Errorf("sign provenance: %w", err)
	}
	return append(line, '\n'), nil
}

// Verify gives what an envelope says, if one of the keys has signed it. Errors
// wrap ErrEnvelope or ErrSignature.
func Verify(envelope []byte, keys ...ed25519.PublicKey) (*intoto.Statement, error) {
	var e dsse.Envelope
	if len(envelope) > provenance.MaxEnvelope {
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrEnvelope, provenance.MaxEnvelope)
	}
	if err := json.Unmarshal(envelope, &e); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEnvelope, err)
	}
	if e.PayloadType != PayloadType || len(e.Signatures) != 1 { // Sigstore's verifiers allow one, too
		return nil, fmt.Errorf("%w: it holds %.100q and has %d signatures, %q with one is expected", ErrEnvelope, e.PayloadType, len(e.Signatures), PayloadType)
	}
	var verifiers []dsse.Verifier
	for _, public := range keys {
		key, err := keyOf(public)
		if err != nil {
			return nil, err
		}
		verifiers = append(verifiers, key)
	}
	verifier, err := dsse.NewEnvelopeVerifier(verifiers...)
	if err != nil {
		return nil, fmt.Errorf("%w: no key is known", ErrSignature)
	}
	_, payload, err := verifier.VerifyAndDecode(context.Background(), &e)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return Read(payload)
}

// Read reads a statement. Errors wrap ErrEnvelope.
func Read(statement []byte) (*intoto.Statement, error) {
	var s intoto.Statement
	if err := protojson.Unmarshal(statement, &s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEnvelope, err)
	}
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEnvelope, err)
	}
	if s.PredicateType != PredicateType {
		return nil, fmt.Errorf("%w: its predicate is %.100q, not %q", ErrEnvelope, s.PredicateType, PredicateType)
	}
	return &s, nil
}

// JobOf is the number of the job that a statement of ours is about; empty: it
// says none.
func JobOf(s *intoto.Statement) string {
	of := s.GetPredicate()
	for _, name := range []string{"buildDefinition", "externalParameters", "facts", "job_id"} {
		of = of.GetFields()[name].GetStructValue()
	}
	return of.GetFields()["value"].GetStringValue()
}

// key is a public one as package dsse wants it.
type key struct {
	public ed25519.PublicKey
	id     string
}

func keyOf(public ed25519.PublicKey) (key, error) {
	if len(public) != ed25519.PublicKeySize {
		return key{}, fmt.Errorf("%w: a public key of %d bytes is not Ed25519's", ErrSignature, len(public))
	}
	id, err := dsse.SHA256KeyID(public)
	return key{public, id}, err
}

func (k key) KeyID() (string, error) { return k.id, nil }

func (k key) Public() crypto.PublicKey { return k.public }

func (k key) Verify(_ context.Context, data, sig []byte) error {
	if !ed25519.Verify(k.public, data, sig) {
		return ErrSignature
	}
	return nil
}

// signing is a key that signs.
type signing struct {
	key
	by Signer
}

func (s signing) Sign(ctx context.Context, pae []byte) ([]byte, error) { return s.by.Sign(ctx, pae) }
