package redact

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// settled ends a text so that nothing of it is held: a gap that no match
// crosses, and an end of whatever escape sequence there is.
var settled = strings.Repeat(" ", maxGap+1) + "\x18\x1b[m~"

// cut cuts a text into pieces.
func cut(r *rand.Rand, text string) (pieces []string) {
	for len(text) > 0 {
		n := min(1+r.IntN(1+r.IntN(40)), len(text))
		pieces = append(pieces, text[:n])
		text = text[n:]
	}
	return pieces
}

// Random texts over few letters, so that forms overlap in every way, against
// the reference: at the end, and after each write.
func TestAgainstReference(t *testing.T) {
	rounds := 2000
	if testing.Short() {
		rounds = 300
	}
	for seed := range uint64(rounds) {
		r := rand.New(rand.NewPCG(seed, 7))
		letters := []string{"a", "a", "b"}
		noise := []string{" ", "\n", "\x00", "\r", "\x1b[1m", "\x1b[", "\x1b]", "\x07", "\x1b\\", "\x1b", strings.Repeat(" ", maxGap-1), strings.Repeat(" ", maxGap+1)}
		draw := func(n int, dirt float64) string {
			var b strings.Builder
			for range n {
				if r.Float64() < dirt {
					b.WriteString(noise[r.IntN(len(noise))])
				}
				b.WriteString(letters[r.IntN(len(letters))])
			}
			return b.String()
		}
		var secrets []Secret
		for i := range 1 + r.IntN(3) {
			secrets = append(secrets, Secret{fmt.Sprint("N", i), draw(1+r.IntN([]int{11, 11, 40}[r.IntN(3)]), 0), true})
		}
		var text strings.Builder
		for text.Len() < 300 {
			switch r.IntN(4) {
			case 0:
				text.WriteString(draw(1+r.IntN(30), []float64{0, 0.05, 0.3}[r.IntN(3)]))
			case 1:
				v := secrets[r.IntN(len(secrets))].Value
				text.WriteString(v)
			case 2: // a form, dirty
				forms := formsOf(secrets[r.IntN(len(secrets))].Value, 1)
				for _, c := range []byte(forms[r.IntN(len(forms))]) {
					if r.IntN(4) == 0 {
						text.WriteString(noise[r.IntN(len(noise)-1)])
					}
					text.WriteByte(c)
				}
			case 3:
				text.WriteString(noise[r.IntN(len(noise))])
			}
		}
		text.WriteString(settled)
		o := Options{MinLength: 1 + r.IntN(8)}
		want := reference(text.String(), secrets, o)
		for range 3 {
			got, err := redacted(cut(r, text.String()), secrets, o)
			if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Fatalf("seed %d\nsecrets %q\ntext %q\ngot  %q\nwant %q", seed, values(secrets), text.String(), got, want)
			}
		}
		forms, err := allForms(secrets, o)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		log, err := New(&out, secrets, o)
		if err != nil {
			t.Fatal(err)
		}
		soFar := ""
		for _, p := range cut(r, text.String()) {
			soFar += p
			if _, err := log.Write([]byte(p)); err != nil {
				t.Fatal(err)
			}
			if len(soFar) > 250 {
				break
			}
			if want := referenceSoFar(soFar, forms); out.String() != want {
				t.Fatalf("seed %d\nsecrets %q\ntext so far %q\ngot  %q\nwant %q", seed, values(secrets), soFar, out.String(), want)
			}
		}
	}
}

func values(secrets []Secret) (all []string) {
	for _, s := range secrets {
		all = append(all, s.Value)
	}
	return all
}
