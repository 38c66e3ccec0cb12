// Stores a value and reads it back. Usage: first 127.0.0.1:7401
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "interop/build/gen/replcache/v1"
)

func main() {
	conn, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(err)
	defer conn.Close()
	cache := pb.NewCacheClient(conn)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()

	_, err = cache.Set(ctx, &pb.SetRequest{
		Key:         []byte("greeting"),
		Value:       []byte("hello"),
		ContentType: "text/plain",
		Ttl:         durationpb.New(10 * time.Minute),
		// A new one for each write, the same for its retries.
		Idempotency: &pb.Idempotency{RequestId: []byte(rand.Text())},
	})
	check(err)
	answer, err := cache.Get(ctx, &pb.GetRequest{Key: []byte("greeting")})
	check(err)
	fmt.Printf("%s version %d\n", answer.GetEntry().GetValue(), answer.GetEntry().GetVersion())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
