package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"cleanroom/executor/secret/store"
)

// maxInput bounds a value or claims that are read, in bytes: a value's fields
// and JSON's quoting of them.
const maxInput = 4 << 20

// setFlags are what `cleanroom secret set` is told.
type setFlags struct {
	fromFile, rotate, claims string
	fields                   bool
	grace                    time.Duration
	generator                store.Generator
}

// flagKinds says which generators a flag is for.
var flagKinds = map[string][]store.Kind{
	"alphabet": {store.Random}, "characters": {store.Random}, "length": {store.Random}, "allow-weak": {store.Random},
	"bits": {store.RSA}, "key": {store.JWT}, "claims": {store.JWT}, "lifetime": {store.JWT},
	"old-value": {store.Command}, "timeout": {store.Command},
}

func secretSet(s *stores) *cobra.Command {
	var o setFlags
	var kind string
	c := &cobra.Command{
		Use:   "set NAME [-- COMMAND ARG...]",
		Short: "Store a secret, or say how it is made and rotated",
		Long: "Store a secret. Its value comes from standard input or a file, never from an argument; a\n" +
			"terminal asks for it. The newline that ends a single line is not part of it.\n\n" +
			"With a generator the value is made here, and made anew when it rotates:\n" +
			"  random   characters of an alphabet (43 of base64url, enough to sign with HS256)\n" +
			"  ed25519  a key pair: fields private_key and public_key, PEM\n" +
			"  rsa      the same, RSA\n" +
			"  jwt      a token with --claims, signed by the stored --key: field token\n" +
			"  command  what COMMAND prints when it has rotated the secret at its source: text, or\n" +
			"           a JSON object of fields; its environment is PATH alone\n\n" +
			"--rotate job gives each job a version of its own, which is destroyed when the job is\n" +
			"over. After a duration the next job gets a new version, and the old one is kept for\n" +
			"the grace period (parameters = [\"version=previous\"] fetches it).",
		Example: "  cleanroom secret set db-password --from-file password.txt\n" +
			"  cleanroom secret set db-password < password.txt\n" +
			"  cleanroom secret set db --fields < user-and-password.json\n" +
			"  cleanroom secret set jwt-key --generator random --rotate job\n" +
			"  cleanroom secret set signing --generator rsa --bits 4096 --rotate 720h --grace 24h\n" +
			"  cleanroom secret set api-token --generator jwt --key signing --claims claims.json --rotate job\n" +
			"  cleanroom secret set deploy --generator command --rotate 24h --from-file first.txt --old-value -- /usr/local/bin/rotate-deploy",
		Args: func(c *cobra.Command, args []string) error {
			if n := c.ArgsLenAtDash(); n < 0 && len(args) == 1 || n == 1 {
				return nil
			}
			// What is too much may be a value: it is not repeated.
			return errors.New("name one secret; its value is never an argument: pipe it in, or use --from-file")
		},
		ValidArgsFunction: func(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return s.complete(c, args, word)
		},
		RunE: func(c *cobra.Command, args []string) error {
			o.generator.Kind, o.generator.Command = store.Kind(kind), args[1:]
			return s.set(c, args[0], &o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.fromFile, "from-file", "", "read the value from this file (- for standard input)")
	f.BoolVar(&o.fields, "fields", false, "the value is a JSON object: a secret of several fields")
	f.StringVar(&o.rotate, "rotate", "", "job, never or a duration like 720h (default never)")
	f.DurationVar(&o.grace, "grace", 0, "keep old versions for so long (default 1h)")
	f.StringVar(&kind, "generator", "", "what makes the value: random, ed25519, rsa, jwt or command")
	f.StringVar(&o.generator.Alphabet, "alphabet", "base64url", "random: "+strings.Join(store.Alphabets, ", "))
	f.StringVar(&o.generator.Characters, "characters", "", "random: these characters, instead of an alphabet")
	f.IntVar(&o.generator.Length, "length", store.DefaultLength, "random: number of characters")
	f.BoolVar(&o.generator.AllowWeak, "allow-weak", false, "random: take less than 64 bits")
	f.IntVar(&o.generator.Bits, "bits", store.DefaultBits, "rsa: size of the key")
	f.StringVar(&o.generator.Key, "key", "", "jwt: name of the secret that signs")
	f.StringVar(&o.claims, "claims", "", "jwt: file of the claims, a JSON object whose strings are templates like {{.Project}}")
	f.DurationVar(&o.generator.Lifetime, "lifetime", 0, "jwt: time until exp (default until the job is over, or rotation and grace)")
	f.BoolVar(&o.generator.PassOld, "old-value", false, `command: it reads {"name": ..., "fields": {...}} with the old value on its standard input`)
	f.DurationVar(&o.generator.Timeout, "timeout", store.DefaultTimeout, "command: time it may take")
	words := func(list ...string) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return list, cobra.ShellCompDirectiveNoFileComp
		}
	}
	c.RegisterFlagCompletionFunc("generator", words("random", "ed25519", "rsa", "jwt", "command"))
	c.RegisterFlagCompletionFunc("alphabet", words(store.Alphabets...))
	c.RegisterFlagCompletionFunc("rotate", words("job", "never", "24h", "720h"))
	c.RegisterFlagCompletionFunc("key", s.complete)
	return c
}

func (s *stores) set(c *cobra.Command, name string, o *setFlags) error {
	if err := store.CheckName(name); err != nil {
		return err
	}
	change, err := o.change(c)
	if err != nil {
		return err
	}
	st, err := s.open()
	if err != nil {
		return err
	}
	all, err := st.List()
	if err != nil {
		return err
	}
	generated := change.Generator != nil || slices.ContainsFunc(all, func(i store.Info) bool { return i.Name == name && i.Generator != "" })
	ctx, stop := interruptible(c)
	defer stop()
	switch {
	case o.fromFile != "" || !generated:
		if change.Fields, err = o.read(ctx, c, name); err != nil {
			return err
		}
	case change.Generator == nil && change.Rotate == nil && change.Grace == nil || o.fields:
		return fmt.Errorf("%s has a generator: `cleanroom secret rotate %s` makes a new value, --from-file - takes yours", name, name)
	}
	told, err := s.announce(c, "set", name, false)
	if err != nil {
		return err
	}
	number, err := st.Set(ctx, name, change)
	if err != nil {
		return errors.Join(err, told.Undone())
	}
	switch {
	case number > 0:
		fmt.Fprintf(c.OutOrStdout(), "%s: version %d is current\n", name, number)
	case change.Rotate != nil && change.Rotate.PerJob:
		fmt.Fprintf(c.OutOrStdout(), "%s: each job gets a version of its own\n", name)
	default:
		fmt.Fprintf(c.OutOrStdout(), "%s: changed\n", name)
	}
	return told.Done(ofVersion(number))
}

// change is what the flags say, but for the value.
func (o *setFlags) change(c *cobra.Command) (change store.Change, err error) {
	if c.Flags().Changed("rotate") {
		r, err := store.ParseRotation(o.rotate)
		if err != nil {
			return change, err
		}
		change.Rotate = &r
	}
	if c.Flags().Changed("grace") {
		change.Grace = &o.grace
	}
	if change.Generator, err = o.newGenerator(c); err != nil {
		return store.Change{}, err
	}
	return change, nil
}

// newGenerator keeps of the flags what the generator's kind needs.
func (o *setFlags) newGenerator(c *cobra.Command) (*store.Generator, error) {
	all := o.generator
	var wrong error
	c.Flags().Visit(func(f *pflag.Flag) {
		if kinds, ok := flagKinds[f.Name]; ok && !slices.Contains(kinds, all.Kind) && wrong == nil {
			wrong = fmt.Errorf("--%s is for --generator %s", f.Name, kinds[0])
		}
	})
	if len(all.Command) > 0 && all.Kind != store.Command && wrong == nil {
		wrong = errors.New("a command is for --generator command; a value is never an argument")
	}
	if wrong != nil {
		return nil, wrong
	}
	g := &store.Generator{Kind: all.Kind}
	switch all.Kind {
	case "":
		return nil, nil
	case store.Random:
		g.Alphabet, g.Characters, g.Length, g.AllowWeak = all.Alphabet, all.Characters, all.Length, all.AllowWeak
		if g.Characters != "" && !c.Flags().Changed("alphabet") {
			g.Alphabet = ""
		}
	case store.RSA:
		g.Bits = all.Bits
	case store.JWT:
		if o.claims == "" {
			return nil, errors.New("--generator jwt needs --claims, a file")
		}
		text, err := readFile(o.claims, nil)
		if err != nil {
			return nil, err
		}
		g.Key, g.Claims, g.Lifetime = all.Key, text, all.Lifetime
	case store.Command:
		g.Command, g.PassOld, g.Timeout = all.Command, all.PassOld, all.Timeout
	}
	return g, nil
}

// read gets the value: from the file, or standard input.
func (o *setFlags) read(ctx context.Context, c *cobra.Command, name string) (map[string]string, error) {
	var text []byte
	var err error
	file := o.fromFile
	if file == "" {
		file = "-"
	}
	if tty, ok := terminal(c.InOrStdin()); ok && file == "-" {
		text, err = prompt(ctx, tty, c.ErrOrStderr(), name)
	} else {
		text, err = readFile(file, c.InOrStdin())
	}
	if err != nil {
		return nil, err
	}
	defer clear(text)
	if o.fields {
		return store.ParseFields(text)
	}
	return map[string]string{"value": store.TrimLine(string(text))}, nil
}

// readFile reads a whole file; - is stdin, where there is one.
func readFile(file string, stdin io.Reader) ([]byte, error) {
	r := stdin
	if file != "-" || stdin == nil {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	}
	text, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	if len(text) > maxInput {
		return nil, fmt.Errorf("%s has more than %d bytes", file, maxInput)
	}
	return text, nil
}

func terminal(r any) (*os.File, bool) {
	f, ok := r.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}

// prompt asks twice, without echo: what cannot be seen is easily mistyped.
func prompt(ctx context.Context, tty *os.File, w io.Writer, name string) ([]byte, error) {
	first, err := ask(ctx, tty, w, "value of "+name+" (not shown): ")
	if err != nil {
		return nil, err
	}
	second, err := ask(ctx, tty, w, "again: ")
	if err != nil {
		return nil, err
	}
	defer clear(second)
	if string(first) != string(second) {
		clear(first)
		return nil, errors.New("the two differ: nothing was stored")
	}
	return first, nil
}

func ask(ctx context.Context, tty *os.File, w io.Writer, question string) ([]byte, error) {
	type answer struct {
		text []byte
		err  error
	}
	before, err := term.GetState(int(tty.Fd()))
	if err != nil {
		return nil, err
	}
	fmt.Fprint(w, question)
	defer fmt.Fprintln(w)
	got := make(chan answer, 1)
	go func() {
		text, err := term.ReadPassword(int(tty.Fd()))
		got <- answer{text, err}
	}()
	select {
	case a := <-got:
		return a.text, a.err
	case <-ctx.Done(): // the terminal must not stay without echo
		term.Restore(int(tty.Fd()), before)
		return nil, errors.New("interrupted: nothing was stored")
	}
}
