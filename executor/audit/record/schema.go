package record

import (
	"bytes"
	_ "embed"
	"fmt"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Schema is the JSON Schema (2020-12) of Version. It has a description of
// every property, and allows no other.
//
//go:embed schema.json
var Schema []byte

// compiled is ready once for a process: the schema is ours, so that a mistake
// in it is one of the program.
var compiled = sync.OnceValue(func() *jsonschema.Schema {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema))
	if err != nil {
		panic(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	const name = "schema.json"
	if err := c.AddResource(name, doc); err != nil {
		panic(err)
	}
	return c.MustCompile(name)
})

// validate holds JSON against the schema. Its error is one line, and wraps
// ErrRecord.
func validate(text []byte) error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if err := compiled().Validate(doc); err != nil {
		return fmt.Errorf("%w: it does not fit the schema: %s", ErrRecord, strings.Join(strings.Fields(err.Error()), " "))
	}
	return nil
}
