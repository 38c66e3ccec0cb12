package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "interop/build/gen/replcache/v1"
)

const (
	tryTimeout = 5 * time.Second
	giveUp     = 30 * time.Second
	pause      = 100 * time.Millisecond
)

// node has the services of one node.
type node struct {
	cache   pb.CacheClient
	lock    pb.LockClient
	watch   pb.WatchClient
	cluster pb.ClusterClient
	conn    *grpc.ClientConn
}

func connect(address, caFile, token string) (*node, error) {
	options := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	if caFile != "" {
		tls, err := credentials.NewClientTLSFromFile(caFile, "")
		if err != nil {
			return nil, err
		}
		options = []grpc.DialOption{grpc.WithTransportCredentials(tls)}
	}
	if token != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer(token)))
	}
	conn, err := grpc.NewClient(address, options...)
	if err != nil {
		return nil, err
	}
	return &node{
		cache:   pb.NewCacheClient(conn),
		lock:    pb.NewLockClient(conn),
		watch:   pb.NewWatchClient(conn),
		cluster: pb.NewClusterClient(conn),
		conn:    conn,
	}, nil
}

// bearer is a token that goes with every call, over TLS only.
type bearer string

func (token bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(token)}, nil
}

func (bearer) RequireTransportSecurity() bool { return true }

// cluster is all nodes.
type cluster struct {
	nodes []*node
	first int
}

// call asks one node after another until one answers. The same request is sent again after a failure that may
// pass: safe for reads, and for writes with a request id.
func call[T any](c *cluster, ask func(context.Context, *node) (T, error)) (T, error) {
	for end := time.Now().Add(giveUp); ; time.Sleep(pause) {
		ctx, cancel := context.WithTimeout(context.Background(), tryTimeout)
		answer, err := ask(ctx, c.nodes[c.first])
		cancel()
		if err == nil || !mayPass(err) || time.Now().After(end) {
			return answer, err
		}
		c.first = (c.first + 1) % len(c.nodes)
	}
}

func mayPass(err error) bool {
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.DeadlineExceeded
}

// once names one write: however often it is sent with this, it is executed once.
func once() *pb.Idempotency {
	return &pb.Idempotency{RequestId: []byte(rand.Text())}
}

// reason is what ErrorInfo says; the gRPC code where no node has answered.
func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return fmt.Sprintf("%s may_have_executed=%s", info.Reason, info.Metadata["may_have_executed"])
		}
	}
	return status.Code(err).String()
}
