package main

import (
	"github.com/spf13/cobra"

	"cleanroom/executor/audit/record/schema"
)

func auditCommand(g *globals) *cobra.Command {
	c := &cobra.Command{Use: "audit", Short: "What is kept of jobs, for auditors", Args: cobra.NoArgs}
	open := func(c *cobra.Command) (auditLog, error) {
		l, cfg, err := g.openLedger()
		return readLedger{l, c.Context(), cfg}, err
	}
	c.AddCommand(auditList(open), auditReport(open), auditInit(g), auditKey(g), auditRotate(g), auditShow(g), auditProve(g), auditProvenance(g), auditVerify(g), auditMatch(g), auditForward(g), auditSchema())
	return c
}

func auditSchema() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of audit records", Args: cobra.NoArgs,
		Long: "Print the JSON Schema (2020-12) of audit records, with a description of every property. Records are canonical\n" +
			"JSON (RFC 8785), so that the same record is always the same bytes.",
		Example: "  cleanroom audit schema > audit-record.schema.json",
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := c.OutOrStdout().Write(schema.Schema)
			return err
		},
	}
}
