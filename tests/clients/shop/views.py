"""What can be done with items."""

from drf_model_pusher.views import ModelPusherViewMixin
from rest_framework.viewsets import ModelViewSet

from shop.models import Item
from shop.serializers import ItemSerializer


class ItemViewSet(ModelPusherViewMixin, ModelViewSet):
    queryset = Item.objects.all()
    serializer_class = ItemSerializer

    def get_pusher_channels(self):
        return ["private-shop"]
