package store

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math"
	"math/big"
	"path/filepath"
	"strings"
	"time"
)

// Kind of a generator.
type Kind string

// Kinds.
const (
	Random  Kind = "random"
	Ed25519 Kind = "ed25519"
	RSA     Kind = "rsa"
	JWT     Kind = "jwt"
	Command Kind = "command"
)

// alphabets of random values, by name.
var alphabets = map[string]string{
	"alnum":     "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
	"hex":       "0123456789abcdef",
	"base64url": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", // RFC 4648, section 5
	"ascii":     printable(),
}

// Alphabets are their names, as a help text wants them.
var Alphabets = []string{"alnum", "hex", "base64url", "ascii"}

func printable() string {
	var b strings.Builder
	for c := byte('!'); c <= '~'; c++ {
		b.WriteByte(c)
	}
	return b.String()
}

// Bounds of generators.
const (
	// DefaultLength of base64url holds 258 bits: enough for HS256, which
	// wants 256 (RFC 7518, section 3.2).
	DefaultLength  = 43
	maxLength      = 4096
	minEntropy     = 64 // bits
	DefaultBits    = 3072
	minBits        = 2048
	maxBits        = 8192
	DefaultTimeout = 30 * time.Second
	maxTimeout     = 10 * time.Minute
)

// Generator makes the values of a secret. Only what its Kind needs is set.
// Random gives the field value; Ed25519 and RSA give private_key (PKCS #8)
// and public_key (SubjectPublicKeyInfo), both PEM; JWT gives token; Command
// gives value, or the fields of the JSON object that it prints.
type Generator struct {
	Kind Kind `json:"kind"`

	// Alphabet (by name) or Characters, and Length of a Random value.
	// AllowWeak takes less than 64 bits.
	Alphabet   string `json:"alphabet,omitempty"`
	Characters string `json:"characters,omitempty"`
	Length     int    `json:"length,omitempty"`
	AllowWeak  bool   `json:"allow_weak,omitempty"`

	// Bits of an RSA key.
	Bits int `json:"bits,omitempty"`

	// Key names the secret that signs a JWT: a key pair, or a value of at
	// least 32 bytes. Claims is a JSON object; each string in it is a Go
	// template (see tokenData). Lifetime ends the token; 0 means with the job,
	// or when it has rotated and its grace is over.
	Key      string          `json:"key,omitempty"`
	Claims   json.RawMessage `json:"claims,omitempty"`
	Lifetime time.Duration   `json:"lifetime_ns,omitempty"`

	// Command is a program's absolute path and its arguments. PassOld gives it
	// the old value on stdin. Timeout ends it, and all it started.
	Command []string      `json:"command,omitempty"`
	PassOld bool          `json:"pass_old,omitempty"`
	Timeout time.Duration `json:"timeout_ns,omitempty"`
}

func (g *Generator) check() error {
	switch g.Kind {
	case Random:
		return g.checkRandom()
	case Ed25519:
		return nil
	case RSA:
		if g.Bits < minBits || g.Bits > maxBits || g.Bits%8 != 0 {
			return fmt.Errorf("%w: an RSA key has from %d to %d bits, a multiple of 8, not %d", ErrInput, minBits, maxBits, g.Bits)
		}
		return nil
	case JWT:
		return g.checkToken()
	case Command:
		if len(g.Command) == 0 || !filepath.IsAbs(g.Command[0]) {
			return fmt.Errorf("%w: a command is a program's absolute path and its arguments", ErrInput)
		}
		if g.Timeout <= 0 || g.Timeout > maxTimeout {
			return fmt.Errorf("%w: a command's timeout is more than 0 and at most %s", ErrInput, short(maxTimeout))
		}
		return nil
	}
	return fmt.Errorf("%w: generator %q must be one of random, ed25519, rsa, jwt, command", ErrInput, string(g.Kind))
}

func (g *Generator) characters() string {
	if g.Characters != "" {
		return g.Characters
	}
	return alphabets[g.Alphabet]
}

func (g *Generator) checkRandom() error {
	if (g.Alphabet == "") == (g.Characters == "") || g.Characters == "" && alphabets[g.Alphabet] == "" {
		return fmt.Errorf("%w: alphabet %q must be one of %s, or none with characters of your own", ErrInput, g.Alphabet, strings.Join(Alphabets, ", "))
	}
	set := g.characters()
	for i := range len(set) {
		if c := set[i]; c < ' ' || c > '~' {
			return fmt.Errorf("%w: characters must be printable ASCII", ErrInput)
		} else if strings.IndexByte(set[i+1:], c) >= 0 {
			return fmt.Errorf("%w: characters has %q twice, which would make it more likely", ErrInput, c)
		}
	}
	if len(set) < 2 || g.Length < 1 || g.Length > maxLength {
		return fmt.Errorf("%w: a random value has 1 to %d of at least 2 characters", ErrInput, maxLength)
	}
	if bits := float64(g.Length) * math.Log2(float64(len(set))); bits < minEntropy && !g.AllowWeak {
		return fmt.Errorf("%w: %d of %d characters are %.0f bits, and can be guessed: at least %d bits are %d of them, or allow a weak value",
			ErrInput, g.Length, len(set), bits, minEntropy, int(math.Ceil(minEntropy/math.Log2(float64(len(set))))))
	}
	return nil
}

// random draws each character evenly (crypto/rand.Int has no modulo bias).
func (g *Generator) random() (value, error) {
	set := g.characters()
	n := big.NewInt(int64(len(set)))
	text := make([]byte, g.Length)
	for i := range text {
		k, err := rand.Int(rand.Reader, n)
		if err != nil {
			return value{}, err
		}
		text[i] = set[k.Int64()]
	}
	return value{fields: map[string]string{"value": string(text)}}, nil
}

func (g *Generator) keyPair() (value, error) {
	var private crypto.Signer
	var err error
	if g.Kind == RSA {
		private, err = rsa.GenerateKey(rand.Reader, g.Bits)
	} else {
		_, private, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		return value{}, err
	}
	privateDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return value{}, err
	}
	publicDER, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return value{}, err
	}
	return value{fields: map[string]string{
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: privateDER})),
		"public_key":  string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER})),
	}}, nil
}
