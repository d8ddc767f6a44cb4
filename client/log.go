package client

import (
	"context"
	"fmt"
)

// Checkpoint returns the latest signed checkpoint of the log: a signed note with the number of events in the log's Merkle tree, and the
// tree's hash. Check it with golang.org/x/mod/sumdb/note and the public key.
func (c *Client) Checkpoint(ctx context.Context) ([]byte, error) {
	req, err := newGetCheckpointRequest(ctx, c.base)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	got, err := c.send(req, again)
	if err != nil {
		return nil, err
	}
	return got.body, nil
}

// InclusionProof returns a proof that the event at a position is in the tree of a checkpoint of that size; 0 stands for the latest.
// Check it with golang.org/x/mod/sumdb/tlog.
func (c *Client) InclusionProof(ctx context.Context, position, size int64) (*InclusionProof, error) {
	req, err := newGetInclusionProofRequest(ctx, c.base, &getInclusionProofParams{Position: position, Size: size})
	p, _, err := ask[InclusionProof](c, again, req, err)
	return p, err
}

// ConsistencyProof returns a proof that the tree of a checkpoint of size from is the beginning of that of size to; 0 for to stands
// for the latest. Check it with golang.org/x/mod/sumdb/tlog.
func (c *Client) ConsistencyProof(ctx context.Context, from, to int64) (*ConsistencyProof, error) {
	req, err := newGetConsistencyProofRequest(ctx, c.base, &getConsistencyProofParams{From: from, To: to})
	p, _, err := ask[ConsistencyProof](c, again, req, err)
	return p, err
}
