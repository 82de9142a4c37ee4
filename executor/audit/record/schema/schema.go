// Package schema has the JSON Schema of audit records, and holds records
// against it. It is apart from package record, which every stage of a job
// needs, as the validator takes long to load and only what reads or writes the
// log needs it: that sets record.Check.
package schema

import (
	"bytes"
	_ "embed"
	"errors"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Schema is the JSON Schema (2020-12) of record.Version. It has a description
// of every property, and allows no other.
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

// Check holds JSON against the schema. Its error is one line.
func Check(text []byte) error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	if err := compiled().Validate(doc); err != nil {
		return errors.New("it does not fit the schema: " + strings.Join(strings.Fields(err.Error()), " "))
	}
	return nil
}
