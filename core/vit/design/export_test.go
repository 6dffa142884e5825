package design

import "testing"

// AddRow puts a row into the table for the time of a test.
func AddRow(t *testing.T, r Row) {
	before := table
	table = append(table[:len(table):len(table)], r)
	t.Cleanup(func() { table = before })
}
