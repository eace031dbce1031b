// Calls a Diplex gateway: whole answers, streams, pictures, cancelling, deadlines and what errors hold.
//
//	go run . generate "What is the capital of France?"
//	go run . stream "Why is the sky blue?"
//	go run . image lunch.png "What is in this image?"
//	go run . cancel
//	go run . deadline
//	go run . errors
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "diplex.example/client/gen/diplex/v1"
)

const (
	defaultAddress = "127.0.0.1:50051"
	mostBytes      = 32 << 20 // of a request, by the gateway's policy
	endless        = "The history of the sea is a history of people who"
)

func main() {
	if err := run(append(os.Args[1:], "", "", "")); err != nil {
		found := detailsOf(err)
		fmt.Fprintf(os.Stderr, "%v\n%s\n", found, found.message)
		os.Exit(1)
	}
}

func run(words []string) error {
	address := os.Getenv("DIPLEX_ADDRESS")
	if address == "" {
		address = defaultAddress
	}
	connection, err := dial(address, grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(mostBytes)))
	if err != nil {
		return err
	}
	defer connection.Close()
	client := pb.NewGenerationServiceClient(connection)

	// The deadline travels with every hop: the worker stops, too.
	ctx, cancel := context.WithTimeout(authenticated(context.Background()), time.Minute)
	defer cancel()
	switch words[0] {
	case "generate":
		return generate(ctx, client, chat("", part(words[1])))
	case "stream":
		return stream(ctx, client, chat("", part(words[1])))
	case "image":
		return image(ctx, client, words[1], words[2])
	case "cancel":
		return cancelled(ctx, client)
	case "deadline":
		return deadline(ctx, client)
	case "errors":
		return refused(ctx, client)
	}
	return errors.New("say generate, stream, image, cancel, deadline or errors")
}

// authenticated adds the API key, if there is one.
func authenticated(ctx context.Context) context.Context {
	if key := os.Getenv("DIPLEX_API_KEY"); key != "" {
		return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
	}
	return ctx
}

func part(text string) *pb.ContentPart {
	return &pb.ContentPart{Content: &pb.ContentPart_Text{Text: text}}
}

func chat(model string, parts ...*pb.ContentPart) *pb.GenerateRequest {
	message := &pb.ChatMessage{Role: pb.Role_ROLE_USER, Parts: parts}
	// A pointer says that a field is set: 0 is a temperature, and unset is the model's own.
	temperature, most := float32(0), uint32(60)
	return &pb.GenerateRequest{
		Model:    model,
		Input:    &pb.GenerateRequest_Chat{Chat: &pb.ChatInput{Messages: []*pb.ChatMessage{message}}},
		Sampling: &pb.SamplingOptions{Temperature: &temperature},
		Stopping: &pb.StoppingOptions{MaxTokens: &most},
	}
}

func long() *pb.GenerateRequest {
	most := uint32(4000)
	return &pb.GenerateRequest{
		Input:    &pb.GenerateRequest_Prompt{Prompt: endless},
		Stopping: &pb.StoppingOptions{MaxTokens: &most, MinTokens: &most},
	}
}

func generate(ctx context.Context, client pb.GenerationServiceClient, request *pb.GenerateRequest) error {
	answer, err := client.Generate(ctx, request)
	if err != nil {
		return err
	}
	fmt.Println(answer.Choices[0].Text)
	fmt.Fprintf(os.Stderr, "%d tokens by %s\n", answer.Receipt.Usage.CompletionTokens, answer.Receipt.Worker)
	return nil
}

// stream prints an answer as it is generated: accepted, deltas, finished, receipt.
func stream(ctx context.Context, client pb.GenerationServiceClient, request *pb.GenerateRequest) error {
	events, err := client.GenerateStream(ctx, request)
	if err != nil {
		return err
	}
	for {
		event, err := events.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Print(event.GetDelta().GetText())
		if receipt := event.GetReceipt(); receipt != nil {
			fmt.Fprintf(os.Stderr, "\n%d tokens\n", receipt.Usage.CompletionTokens)
		}
	}
}

func image(ctx context.Context, client pb.GenerationServiceClient, file, question string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if question == "" {
		question = "What is in this image?"
	}
	picture := &pb.ContentPart{Content: &pb.ContentPart_Image{Image: &pb.Image{Data: data}}}
	return generate(ctx, client, chat("seeing", picture, part(question)))
}

// cancelled stops an answer that would go on for long; its slot is free at the model's next step.
func cancelled(ctx context.Context, client pb.GenerationServiceClient) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := client.GenerateStream(ctx, long())
	if err != nil {
		return err
	}
	for text := ""; ; {
		event, err := events.Recv()
		if status.Code(err) == codes.Canceled {
			fmt.Println(text)
			return nil
		}
		if err != nil {
			return err
		}
		if text += event.GetDelta().GetText(); len(text) > 80 {
			cancel()
		}
	}
}

// deadline may take one second. What can be foreseen not to end in time is refused at once.
func deadline(ctx context.Context, client pb.GenerationServiceClient) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := client.Generate(ctx, long()); err != nil {
		fmt.Println(detailsOf(err))
		return nil
	}
	return errors.New("thousands of tokens in a second")
}

// refused shows what a refusal says: a code, a constant reason, and each field that is at fault.
func refused(ctx context.Context, client pb.GenerationServiceClient) error {
	request, temperature := chat("", part("Hello")), float32(-1)
	request.Sampling.Temperature = &temperature
	if _, err := client.Generate(ctx, request); err != nil {
		fmt.Println(detailsOf(err))
		return nil
	}
	return errors.New("a temperature below 0 was taken")
}
