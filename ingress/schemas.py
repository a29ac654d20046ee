"""Answers as the OpenAPI document shows them. Nothing is validated with these: the bytes come from the engine.

Source: OpenAI API reference, 2026.
"""

from typing import Any, Literal

from pydantic import BaseModel, Field


class Error(BaseModel):
    message: str = Field(description="what is wrong and what to change")
    type: str
    param: str | None = None
    code: str | None = None


class ErrorResponse(BaseModel):
    error: Error


class Usage(BaseModel):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: dict[str, Any] | None = None


class ChatCompletion(BaseModel):
    id: str
    object: Literal["chat.completion"]
    created: int = Field(description="UTC seconds")
    model: str = Field(description="the model that answered")
    choices: list[dict[str, Any]]
    usage: Usage


class TextCompletion(BaseModel):
    id: str
    object: Literal["text_completion"]
    created: int = Field(description="UTC seconds")
    model: str = Field(description="the model that answered")
    choices: list[dict[str, Any]]
    usage: Usage


class FeedbackReceipt(BaseModel):
    object: Literal["feedback"]
    request: str = Field(description="the request's key")
    score: float
    label: str


class ModelCard(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "millrace"


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]


class Health(BaseModel):
    status: str
