package com.example;

import com.example.diplex.v1.ChatInput;
import com.example.diplex.v1.ChatMessage;
import com.example.diplex.v1.ContentPart;
import com.example.diplex.v1.GenerateRequest;
import com.example.diplex.v1.GenerationServiceGrpc;
import com.example.diplex.v1.GenerationServiceGrpc.GenerationServiceBlockingStub;
import com.example.diplex.v1.Image;
import com.example.diplex.v1.Role;
import com.google.protobuf.ByteString;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.MetadataUtils;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;

/**
 * Calls a Diplex gateway, at DIPLEX_ADDRESS or 127.0.0.1:50051. Its words are one of
 *
 * <pre>
 * generate "What is the capital of France?"
 * stream "Why is the sky blue?"
 * image lunch.png "What is in this image?"
 * cancel
 * deadline
 * errors
 * </pre>
 */
public final class Main {
  private static final String ENDLESS = "The history of the sea is a history of people who";

  private final GenerationServiceBlockingStub stub;

  private Main(ManagedChannel channel) {
    this.stub =
        GenerationServiceGrpc.newBlockingStub(channel)
            .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(caller()));
  }

  public static void main(String[] words) throws Exception {
    String address = System.getenv().getOrDefault("DIPLEX_ADDRESS", "127.0.0.1:50051");
    ManagedChannel channel = ManagedChannelBuilder.forTarget(address).usePlaintext().build();
    try {
      new Main(channel).run(words);
    } catch (StatusRuntimeException error) {
      System.err.println(Refusal.of(error) + "\n" + error.getStatus().getDescription());
      System.exit(1);
    } finally {
      channel.shutdown().awaitTermination(5, TimeUnit.SECONDS);
    }
  }

  private void run(String[] words) throws IOException {
    switch (words.length > 0 ? words[0] : "") {
      case "generate" -> generate(chat("", text(words[1])));
      case "stream" -> stream(chat("", text(words[1])));
      case "image" -> {
        String question = words.length > 2 ? words[2] : "What is in this image?";
        generate(chat("seeing", image(words[1]), text(question)));
      }
      case "cancel" -> cancel();
      case "deadline" -> deadline();
      case "errors" -> refused();
      default -> System.err.println("say generate, stream, image, cancel, deadline or errors");
    }
  }

  /** The API key, if there is one. */
  private static Metadata caller() {
    Metadata metadata = new Metadata();
    String key = System.getenv("DIPLEX_API_KEY");
    if (key != null) {
      metadata.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + key);
    }
    return metadata;
  }

  /** The stub with a deadline, which travels with every hop: the worker stops, too. */
  private GenerationServiceBlockingStub within(long seconds) {
    return stub.withDeadlineAfter(seconds, TimeUnit.SECONDS);
  }

  private static ContentPart text(String text) {
    return ContentPart.newBuilder().setText(text).build();
  }

  private static ContentPart image(String file) throws IOException {
    ByteString data = ByteString.copyFrom(Files.readAllBytes(Path.of(file)));
    return ContentPart.newBuilder().setImage(Image.newBuilder().setData(data)).build();
  }

  /** A question. What isn't set is the model's own default; 0 is a temperature. */
  private static GenerateRequest chat(String model, ContentPart... parts) {
    var message = ChatMessage.newBuilder().setRole(Role.ROLE_USER);
    for (ContentPart part : parts) {
      message.addParts(part);
    }
    var conversation = ChatInput.newBuilder().addMessages(message);
    var request = GenerateRequest.newBuilder().setModel(model).setChat(conversation);
    request.getSamplingBuilder().setTemperature(0);
    request.getStoppingBuilder().setMaxTokens(60);
    return request.build();
  }

  private static GenerateRequest endless() {
    var request = GenerateRequest.newBuilder().setPrompt(ENDLESS);
    request.getStoppingBuilder().setMaxTokens(4000).setMinTokens(4000);
    return request.build();
  }

  private void generate(GenerateRequest request) {
    var answer = within(60).generate(request);
    System.out.println(answer.getChoices(0).getText());
    var receipt = answer.getReceipt();
    System.err.println(receipt.getUsage().getCompletionTokens() + " tokens by " + receipt.getWorker());
  }

  /** Prints an answer as it is generated: accepted, deltas, finished, receipt. */
  private void stream(GenerateRequest request) {
    within(60).generateStream(request).forEachRemaining(event -> {
      switch (event.getEventCase()) {
        case DELTA -> System.out.print(event.getDelta().getText());
        case RECEIPT -> {
          int tokens = event.getReceipt().getUsage().getCompletionTokens();
          System.err.println("\n" + tokens + " tokens");
        }
        default -> { }
      }
    });
  }

  /** Stops an answer that would go on for long; its slot is free at the model's next step. */
  private void cancel() {
    StringBuilder text = new StringBuilder();
    try (Context.CancellableContext context = Context.current().withCancellation()) {
      context.run(() -> {
        var events = within(60).generateStream(endless());
        while (text.length() <= 80) {
          text.append(events.next().getDelta().getText());
        }
      });
    } // Closing the context cancels what was called in it.
    System.out.println(text);
  }

  /** A call that may take one second. What can be foreseen not to end in time is refused at once. */
  private void deadline() throws IOException {
    try {
      within(1).generate(endless());
    } catch (StatusRuntimeException error) {
      System.out.println(Refusal.of(error));
    }
  }

  /** What a refusal says: a code, a constant reason, and each field that is at fault. */
  private void refused() throws IOException {
    var request = chat("", text("Hello")).toBuilder();
    request.getSamplingBuilder().setTemperature(-1);
    try {
      within(60).generate(request.build());
    } catch (StatusRuntimeException error) {
      System.out.println(Refusal.of(error));
    }
  }
}
