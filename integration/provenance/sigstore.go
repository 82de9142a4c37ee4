// Package provenance has verifiers that are not ours read the provenance of
// artifacts: Sigstore's, and in-toto's types of what is in it.
package provenance

import (
	"crypto"
	"io"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"
)

// Sigstore verifies an envelope for an artifact as its tools do with a key, and
// says of which type the predicate is.
func Sigstore(envelope []byte, public crypto.PublicKey, artifact io.Reader) (predicate string, err error) {
	verifier, err := signature.LoadVerifier(public, crypto.SHA256)
	if err != nil {
		return "", err
	}
	trusted := root.NewTrustedPublicKeyMaterialFromMapping(map[string]*root.ExpiringKey{"ours": root.NewExpiringKey(verifier, time.Time{}, time.Time{})})
	v, err := verify.NewVerifier(trusted, verify.WithNoObserverTimestamps())
	if err != nil {
		return "", err
	}
	var b bundle.Bundle
	if err := b.UnmarshalJSON([]byte(`{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
		"verificationMaterial": {"publicKey": {"hint": "ours"}}, "dsseEnvelope": ` + string(envelope) + `}`)); err != nil {
		return "", err
	}
	got, err := v.Verify(&b, verify.NewPolicy(verify.WithArtifact(artifact), verify.WithKey()))
	if err != nil {
		return "", err
	}
	return got.Statement.GetPredicateType(), nil
}
