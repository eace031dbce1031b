"""Chats and streams by clients of other projects, unchanged, with what they send by default."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import llm
import openai
import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from litellm import completion
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel, Field

MODEL = "SmolLM2-135M-Instruct"
QUESTION = "What is the capital of France?"
ANSWER = "Paris"


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=20)


def test_openai_of_an_older_generation(url):
    assert openai.__version__.startswith("2.")
    client = openai.OpenAI(base_url=url, api_key="none")
    assert ANSWER in client.responses.create(model=MODEL, input=QUESTION, temperature=0).output_text


class TestLangChain:
    @pytest.fixture
    def chat(self, url):
        return ChatOpenAI(base_url=url, api_key="none", model=MODEL, temperature=0, max_tokens=64)

    def test_a_chat(self, chat):
        answer = chat.invoke([HumanMessage(QUESTION)])
        assert ANSWER in answer.content
        assert answer.usage_metadata["output_tokens"] > 0

    def test_a_stream(self, chat):
        chunks = list(chat.stream(QUESTION))
        assert len(chunks) > 1
        assert ANSWER in "".join(chunk.content for chunk in chunks)

    def test_a_class(self, chat):
        city = chat.with_structured_output(City, method="json_schema").invoke(QUESTION)
        assert isinstance(city, City)

    def test_a_tool_on_a_model_that_knows_none(self, url):
        @tool
        def clock(city: str) -> str:
            """Tells the time in a city."""
            return city

        chat = ChatOpenAI(
            base_url=url, api_key="none", model=MODEL, extra_body={"constrained_tool_calls": True}
        )
        answer = chat.bind_tools([clock], tool_choice="clock").invoke("What time is it in Rome?")
        assert answer.tool_calls[0]["name"] == "clock"

    def test_responses(self, url):
        chat = ChatOpenAI(base_url=url, api_key="none", model=MODEL, temperature=0, use_responses_api=True)
        assert ANSWER in chat.invoke(QUESTION).text


class TestLlamaIndex:
    @pytest.fixture
    def chat(self, url):
        return OpenAILike(
            api_base=url, api_key="none", model=MODEL, is_chat_model=True, temperature=0, max_tokens=64
        )

    def test_a_chat(self, chat):
        assert ANSWER in chat.chat([ChatMessage(role="user", content=QUESTION)]).message.content

    def test_a_stream(self, chat):
        pieces = list(chat.stream_chat([ChatMessage(role="user", content=QUESTION)]))
        assert len(pieces) > 1
        assert ANSWER in "".join(piece.delta or "" for piece in pieces)


class TestLiteLlm:
    def ask(self, url, **options):
        return completion(
            f"openai/{MODEL}",
            api_base=url,
            api_key="none",
            messages=[{"role": "user", "content": QUESTION}],
            temperature=0,
            max_tokens=64,
            **options,
        )

    def test_a_chat(self, url):
        assert ANSWER in self.ask(url).choices[0].message.content

    def test_a_stream(self, url):
        chunks = list(self.ask(url, stream=True))
        assert len(chunks) > 1
        assert ANSWER in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


class TestLlm:
    @pytest.fixture
    def folder(self, url, tmp_path, monkeypatch):
        models = [{"model_id": "small", "model_name": MODEL, "api_base": url}]
        (tmp_path / "extra-openai-models.yaml").write_text(json.dumps(models))  # which is YAML too
        monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
        monkeypatch.setenv("OPENAI_API_KEY", "none")

    @pytest.mark.usefixtures("folder")
    @pytest.mark.parametrize("stream", [True, False])
    def test_a_chat(self, stream):
        answer = llm.get_model("small").prompt(QUESTION, stream=stream, temperature=0)
        assert ANSWER in answer.text()

    @pytest.mark.usefixtures("folder")
    def test_its_command(self):
        command = [
            str(Path(sys.executable).with_name("llm")),
            "-m",
            "small",
            "-o",
            "temperature",
            "0",
            QUESTION,
        ]
        assert ANSWER in subprocess.run(command, capture_output=True, text=True, check=True).stdout
